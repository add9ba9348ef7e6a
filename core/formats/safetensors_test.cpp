#include "formats/safetensors.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <tuple>

#include "base/testing/memory_file.hpp"
#include "formats/safetensors_parser.hpp"
#include "formats/safetensors_scanner.hpp"
#include "formats/testing/containers.hpp"

namespace loadstone::formats {
namespace {

using loadstone::testing::MemoryFile;
using testing::little_endian;
using testing::Safetensors;
using testing::safetensors_of;

Result<SafetensorsHeader> read(std::string_view bytes, const OpenOptions& options = {}) {
  return read_safetensors_header(MemoryFile(bytes, "m.safetensors"), bytes.size(), options);
}

std::string error_of(std::string_view bytes, const OpenOptions& options = {}) {
  auto header = read(bytes, options);
  if (header.ok()) return "accepted";
  EXPECT_EQ(header.error().code, Code::invalid_checkpoint);
  return header.error().text();
}

// A header of one tensor "a" with the given entry text, and `nbytes` of data.
std::string one(const std::string& entry, size_t nbytes = 0) {
  return safetensors_of("{\"a\":" + entry + "}", std::string(nbytes, '\0'));
}

constexpr std::string_view kRejected = "safetensors header rejected: m.safetensors: ";
constexpr std::string_view kRange = "tensor range rejected: m.safetensors: ";

struct Case {
  std::string bytes;
  std::string error;
};

void expect_errors(std::string_view prefix, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    EXPECT_EQ(error_of(c.bytes), std::string(prefix) + c.error) << c.bytes.substr(8, 200);
  }
}

TEST(SafetensorsHeader, ReadsTensorsInOrderOfOffsets) {
  const std::string bytes =
      safetensors_of(R"({"__metadata__":{"format":"pt","k":"v\n"},)"
                     R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                     R"("a":{"shape":[1],"data_offsets":[0,4],"dtype":"F32"},)"
                     R"("z\"\u00e9":{"dtype":"U8","shape":[],"data_offsets":[16,17]}})",
                     std::string(17, 'x'));
  auto header = read(bytes);
  ASSERT_TRUE(header.ok()) << header.error().text();
  ASSERT_EQ(header->tensors.size(), 3u);
  const uint64_t begin = bytes.size() - 17;
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[0].dtype, DType::F32);
  EXPECT_EQ(header->tensors[0].offset, begin);
  EXPECT_EQ(header->tensors[1].name, "b");
  EXPECT_EQ(header->tensors[1].shape, (Shape{2, 3}));
  EXPECT_EQ(header->tensors[1].nbytes, 12u);
  EXPECT_EQ(header->tensors[2].name, "z\"\u00e9");
  EXPECT_TRUE(header->tensors[2].shape.empty());
  const std::vector<std::pair<std::string, std::string>> metadata = {{"format", "pt"},
                                                                     {"k", "v\n"}};
  EXPECT_EQ(header->metadata, metadata);
}

TEST(SafetensorsHeader, KeysMayBeWrittenWithEscapes) {
  auto header = read(one(R"({"d\u0074ype":"U8","sh\u0061pe":[1],"data_offset\u0073":[0,1]})", 1));
  ASSERT_TRUE(header.ok()) << header.error().text();
  EXPECT_EQ(header->tensors[0].dtype, DType::U8);
  EXPECT_EQ(
      error_of(one(R"({"dtype":"U8","d\u0074ype":"U8","shape":[1],"data_offsets":[0,1]})", 1)),
      std::string(kRejected) + "found duplicate key \"dtype\", expected it once (at byte 28)");
}

TEST(SafetensorsHeader, S01_TooShort) {
  EXPECT_EQ(error_of(""),
            "safetensors file rejected: m.safetensors: found 0 bytes, expected at least 8 (too "
            "short: an interrupted download?)");
  EXPECT_EQ(error_of("1234567"),
            "safetensors file rejected: m.safetensors: found 7 bytes, expected at least 8 (too "
            "short: an interrupted download?)");
}

TEST(SafetensorsHeader, S02_HeaderLengthBeyondFileOrLimit) {
  expect_errors(
      kRejected,
      {{little_endian<uint64_t>(UINT64_MAX) + "{}",
        "found header length 18446744073709551615 bytes, expected at most 2 (file has 10)"},
       {little_endian<uint64_t>(3) + "{}",
        "found header length 3 bytes, expected at most 2 (file has 10)"}});
  OpenOptions options;
  options.max_header_nbytes = 100;
  EXPECT_EQ(error_of(safetensors_of("{" + std::string(98, ' ') + "}"), options), "accepted");
  EXPECT_EQ(
      error_of(safetensors_of("{" + std::string(99, ' ') + "}"), options),
      "safetensors header rejected: m.safetensors: found header length 101 bytes, expected at "
      "most 100 (the limit max_header_nbytes)");
}

TEST(SafetensorsHeader, S02_AllocatesNothingForALyingLength) {
  // The file claims 1 TB; a sparse size stands in for it and the read is never tried.
  const std::string bytes = little_endian<uint64_t>(uint64_t{1} << 40) + "{}";
  auto header = read_safetensors_header(MemoryFile(bytes), uint64_t{1} << 41);
  ASSERT_FALSE(header.ok());
  EXPECT_EQ(
      header.error().text(),
      "safetensors header rejected: memory: found header length 1099511627776 bytes, expected "
      "at most 100000000 (the limit max_header_nbytes)");
}

TEST(SafetensorsHeader, S03_WhatIsNoJsonMap) {
  const std::string bom = "\xEF\xBB\xBF{}";
  expect_errors(
      kRejected,
      {{safetensors_of(""), "found an empty header, expected a JSON map"},
       {safetensors_of("[]"),
        "found a value of another type, expected a map of tensors (at byte 8)"},
       {safetensors_of("1"),
        "found a value of another type, expected a map of tensors (at byte 8)"},
       {safetensors_of("{} x"),
        "found no closing brace at the end of the header, expected a map of tensors (at byte 8)"},
       {safetensors_of("{}{}"),
        "found bytes behind the closing brace, expected blanks only (at byte 10)"},
       {safetensors_of(std::string("{}\0", 3)),
        "found no closing brace at the end of the header, expected a map of tensors (at byte 8)"},
       {safetensors_of(bom),
        "found a value of another type, expected a map of tensors (at byte 8)"},
       {safetensors_of("{\"a\xff\":1}"), "found invalid UTF-8 at byte 11, expected UTF-8"},
       {safetensors_of("{\"b\\ud800\":1}"),
        "found an invalid string escape, expected a map of tensors (at byte 10)"},
       {safetensors_of("{\"a\nb\":1}"),
        "found a control character in a string, expected a map of tensors (at byte 8)"},
       {safetensors_of("{\"a\":1}"),
        "found a value of another type, expected a map of tensors (at byte 10)"},
       {safetensors_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},}", "x"),
        "found no valid JSON, expected a map of tensors (at byte 39)"}});
}

TEST(SafetensorsHeader, S03_BlanksAroundTheMapAreFine) {
  auto header = read(safetensors_of(" \t\r\n{ } \t\r\n"));
  ASSERT_TRUE(header.ok()) << header.error().text();
  EXPECT_TRUE(header->tensors.empty());
}

TEST(SafetensorsHeader, S04_DeepNestingIsNotFollowed) {
  for (const char* open : {"[", "{\"a\":"}) {
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += open;
    EXPECT_NE(error_of(safetensors_of(deep)).find("safetensors header rejected"),
              std::string::npos);
    EXPECT_NE(error_of(one(deep)).find("safetensors header rejected"), std::string::npos);
    OpenOptions lenient;
    lenient.lenient = true;
    const std::string field = "{\"x\":" + deep + "}";
    EXPECT_NE(error_of(one(field), lenient), "accepted");
  }
}

TEST(SafetensorsHeader, S05_DuplicateKeys) {
  const std::string a = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  const std::string a2 = R"("\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]})";
  expect_errors(kRejected,
                {{safetensors_of("{" + a + "," + a + "}", "x"),
                  "found duplicate key \"a\", expected it once"},
                 {safetensors_of("{" + a + "," + a2 + "}", "xy"),
                  "found duplicate key \"a\", expected it once"},
                 {one(R"({"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})", 1),
                  "found duplicate key \"dtype\", expected it once (at byte 28)"},
                 {safetensors_of(R"({"__metadata__":{},"__metadata__":{}})"),
                  "found duplicate key \"__metadata__\", expected it once (at byte 28)"},
                 {safetensors_of(R"({"__metadata__":{"a":"1","a":"2"}})"),
                  "found duplicate key \"a\", expected it once (at byte 34)"}});
}

std::string two(const std::string& first, const std::string& second, size_t nbytes) {
  return safetensors_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + first +
                            R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}",
                        std::string(nbytes, '\0'));
}

TEST(SafetensorsHeader, S06_RangesMustTile) {
  expect_errors(
      kRange,
      {{two("[0,2]", "[1,3]", 3),
        "b: found an overlap at [1, 3), expected begin 2, the end of tensor \"a\""},
       {two("[0,2]", "[3,5]", 5),
        "b: found a gap at [3, 5), expected begin 2, the end of tensor \"a\""},
       {two("[0,2]", "[0,2]", 2),
        "b: found an overlap at [0, 2), expected begin 2, the end of tensor \"a\""},
       {two("[1,3]", "[3,5]", 5), "a: found the first range at 1, expected it at 0"},
       {two("[2,0]", "[2,4]", 4), "a: found data_offsets [2, 0], expected begin <= end <= 4"},
       {two("[0,2]", "[18446744073709551613,18446744073709551615]", 4),
        "b: found data_offsets [18446744073709551613, 18446744073709551615], expected begin <= end "
        "<= 4"}});
  EXPECT_EQ(error_of(two("[2,4]", "[0,2]", 4)), "accepted");  // JSON order is free
}

TEST(SafetensorsHeader, S07_DataShorterThanLastEnd) {
  const std::string bytes = Safetensors().zeros("a", "F32", "[4]", 16).bytes();
  EXPECT_EQ(error_of(bytes.substr(0, bytes.size() - 5)),
            "file is truncated: m.safetensors: found 74 bytes, expected 79 (5 bytes missing: an "
            "interrupted download?)");
  EXPECT_EQ(error_of(bytes + "abc"),
            "file is too long: m.safetensors: found 82 bytes, expected 79 (3 bytes belong to no "
            "tensor)");
  EXPECT_EQ(error_of(safetensors_of("{}", "x")),
            "file is too long: m.safetensors: found 11 bytes, expected 10 (1 bytes belong to no "
            "tensor)");
}

std::string sized(const std::string& dtype, const std::string& shape, size_t nbytes) {
  return Safetensors().zeros("a", dtype, shape, nbytes).bytes();
}

TEST(SafetensorsHeader, S08_ShapeAndSizeMustAgree) {
  const std::string overflow = ", expected at most 2^64 bytes";
  expect_errors(
      kRange,
      {{sized("BF16", "[128,128]", 16384),
        "a: found 16384 bytes at [0, 16384), expected 32768 for BF16 [128, 128]"},
       {sized("U8", "[4294967296,4294967296]", 0),
        "a: found shape [4294967296, 4294967296] for U8" + overflow},
       {sized("F64", "[4294967296,1073741824]", 0),
        "a: found shape [4294967296, 1073741824] for F64" + overflow},
       // Zero dims hide no overflow, wherever they stand.
       {sized("U8", "[0,1099511627776,1099511627776]", 0),
        "a: found shape [0, 1099511627776, 1099511627776] for U8" + overflow},
       {sized("U8", "[1099511627776,1099511627776,0]", 0),
        "a: found shape [1099511627776, 1099511627776, 0] for U8" + overflow},
       {sized("F4", "[3]", 2),
        "a: found rows of 3 elements, expected a multiple of 2 for F4 (rows fill whole bytes)"},
       {sized("F6_E2M3", "[2]", 2),
        "a: found rows of 2 elements, expected a multiple of 4 for F6_E2M3 (rows fill whole "
        "bytes)"}});
  EXPECT_EQ(error_of(sized("F4", "[3,4]", 6)), "accepted");
  EXPECT_EQ(error_of(sized("F6_E3M2", "[2,8]", 12)), "accepted");
  EXPECT_EQ(error_of(sized("U8", "[0,1099511627776]", 0)), "accepted");
}

TEST(SafetensorsHeader, S09_FieldsHaveTheirTypes) {
  const std::string whole = ", expected whole numbers from 0 on (at byte ";
  const auto shape = [](const std::string& value) {
    return one(R"({"dtype":"U8","shape":)" + value + R"(,"data_offsets":[0,4]})", 4);
  };
  const auto offsets = [](const std::string& value) {
    return one(R"({"dtype":"U8","shape":[4],"data_offsets":)" + value + "}", 4);
  };
  expect_errors(
      kRejected,
      {{shape("[-4]"), "found -4 in shape of tensor \"a\"" + whole + "28)"},
       {shape("[4.0]"), "found 4.0 in shape of tensor \"a\"" + whole + "28)"},
       {shape("[4e0]"), "found 4e0 in shape of tensor \"a\"" + whole + "28)"},
       {shape("[\"4\"]"), "found \"4\" in shape of tensor \"a\"" + whole + "28)"},
       {shape("[18446744073709551616]"),
        "found 18446744073709551616 in shape of tensor \"a\"" + whole + "28)"},
       {shape("4"), "found a value of another type, expected a map of tensors (at byte 28)"},
       {offsets("[0]"), "found 1 data_offsets of tensor \"a\", expected 2 (at byte 40)"},
       {offsets("[0,4,4]"), "found 3 data_offsets of tensor \"a\", expected 2 (at byte 40)"},
       {offsets("[0,4.5]"), "found 4.5 in data_offsets of tensor \"a\"" + whole + "40)"},
       {one(R"({"dtype":1,"shape":[],"data_offsets":[0,1]})", 1),
        "found a value of another type, expected a map of tensors (at byte 15)"},
       {one(R"({"dtype":"U8","shape":[4]})"),
        "found tensor \"a\" without data_offsets, expected dtype, shape and data_offsets (at byte "
        "28)"},
       {one("{}"),
        "found tensor \"a\" without dtype, expected dtype, shape and data_offsets (at "
        "byte 10)"}});
}

TEST(SafetensorsHeader, S09_UnknownDtypeListsTheKnown) {
  const std::string known =
      "expected one of BOOL, F4, F6_E2M3, F6_E3M2, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, "
      "F8_E5M2FNUZ, I16, U16, F16, BF16, I32, U32, F32, C64, F64, I64, U64 (at byte 15)";
  EXPECT_EQ(error_of(sized("bf16", "[1]", 2)), std::string(kRejected) +
                                                   "found dtype \"bf16\" of tensor \"a\", " +
                                                   known + "; did you mean \"BF16\"?");
  EXPECT_EQ(error_of(sized("Q4", "[1]", 2)),
            std::string(kRejected) + "found dtype \"Q4\" of tensor \"a\", " + known);
}

TEST(SafetensorsHeader, S09_UnknownFieldsAreForTheLenient) {
  const std::string bytes =
      one(R"({"dtype":"U8","shape":[1],"note":{"x":[1,"a"]},"data_offsets":[0,1]})", 1);
  EXPECT_EQ(error_of(bytes), std::string(kRejected) +
                                 "found field \"note\" of tensor \"a\", expected dtype, shape and "
                                 "data_offsets only (at byte 40)");
  OpenOptions lenient;
  lenient.lenient = true;
  auto header = read(bytes, lenient);
  ASSERT_TRUE(header.ok()) << header.error().text();
  EXPECT_EQ(header->tensors[0].nbytes, 1u);
  EXPECT_EQ(header->notes,
            std::vector<std::string>{"m.safetensors: tensor \"a\" has an unknown field \"note\""});
  for (const char* value :
       {"nul", "{1}", "[1,]", "\"\\x\"", "01", "\"{x\":[\"a\"]", "1 2", "[1}"}) {
    EXPECT_NE(error_of(one(R"({"dtype":"U8","shape":[1],"n":)" + std::string(value) +
                               R"(,"data_offsets":[0,1]})",
                           1),
                       lenient),
              "accepted")
        << value;
  }
}

TEST(SafetensorsHeader, S10_OddNamesAreLegalAndEscaped) {
  for (const char* name : {"", "../x", "\\u0000", "a\\nb", "\\u001b[31m", "/etc/passwd"}) {
    EXPECT_EQ(error_of(Safetensors().zeros(name, "U8", "[1]", 1).bytes()), "accepted") << name;
  }
  EXPECT_EQ(error_of(Safetensors().zeros("\\u001b[31m\\n", "U8", "[2]", 1).bytes()),
            std::string(kRange) + "\\x1b[31m\\n: found 1 bytes at [0, 1), expected 2 for U8 [2]");
  const std::string longest(kMaxNameNbytes, 'n');
  EXPECT_EQ(error_of(Safetensors().zeros(longest, "U8", "[1]", 1).bytes()), "accepted");
  EXPECT_EQ(error_of(Safetensors().zeros(longest + "n", "U8", "[1]", 1).bytes()),
            std::string(kRejected) +
                "found a tensor name of 4097 bytes, expected at most 4096 (at byte 10)");
}

TEST(SafetensorsHeader, S10_MetadataIsTextOnly) {
  expect_errors(kRejected,
                {{Safetensors().metadata("k", "1").bytes(),
                  "found metadata \"k\" that is no string, expected a string (at byte 26)"},
                 {Safetensors().metadata("k", "null").bytes(),
                  "found metadata \"k\" that is no string, expected a string (at byte 26)"},
                 {Safetensors().metadata("k", "{\"a\":\"b\"}").bytes(),
                  "found metadata \"k\" that is no string, expected a string (at byte 26)"},
                 {safetensors_of(R"({"__metadata__":[]})"),
                  "found a value of another type, expected a map of tensors (at byte 10)"}});
}

TEST(SafetensorsHeader, S11_LegalExtremesLoad) {
  EXPECT_EQ(error_of(safetensors_of("{}")), "accepted");
  EXPECT_EQ(error_of(safetensors_of("{\"__metadata__\":{}}")), "accepted");
  EXPECT_EQ(error_of(safetensors_of("{}" + std::string(1000, ' '))), "accepted");
  const std::string empties = Safetensors()
                                  .zeros("e1", "F32", "[0]", 0)
                                  .zeros("s", "F32", "[]", 4)
                                  .zeros("e2", "F32", "[3,0]", 0)
                                  .zeros("e3", "U8", "[0,0]", 0)
                                  .bytes();
  auto header = read(empties);
  ASSERT_TRUE(header.ok()) << header.error().text();
  EXPECT_EQ(header->tensors.size(), 4u);
  std::string rank = "[1";
  for (size_t i = 1; i < kMaxRank; ++i) rank += ",1";
  EXPECT_EQ(error_of(sized("U8", rank + "]", 1)), "accepted");
  EXPECT_EQ(error_of(sized("U8", rank + ",1]", 1)),
            std::string(kRejected) +
                "found more than 64 dims of tensor \"a\", expected fewer (at byte 28)");
}

TEST(SafetensorsHeader, S11_SeventyThousandTensors) {
  std::string header = "{";
  for (int i = 0; i < 70'000; ++i) {
    header += (i == 0 ? "\"" : ",\"") + std::string("model.layers.") + std::to_string(i) +
              ".weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[" + std::to_string(i) +
              "," + std::to_string(i + 1) + "]}";
  }
  auto read_back = read(safetensors_of(header + "}", std::string(70'000, '\0')));
  ASSERT_TRUE(read_back.ok()) << read_back.error().text();
  ASSERT_EQ(read_back->tensors.size(), 70'000u);
  EXPECT_EQ(read_back->tensors[69'999].name, "model.layers.69999.weight");
}

TEST(SafetensorsHeader, TruncatedAnywhereIsRejected) {
  const std::string bytes = Safetensors()
                                .metadata("format", "\"pt\"")
                                .zeros("a.weight", "BF16", "[2,3]", 12)
                                .zeros("b\\u00e9", "F32", "[]", 4)
                                .bytes();
  ASSERT_EQ(error_of(bytes), "accepted");
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_NE(error_of(bytes.substr(0, cut)), "accepted") << cut;
  }
}

// Whatever a byte is changed to: an error, or a header that another parser agrees with and whose
// tensors tile the file.
TEST(SafetensorsHeader, AlteredBytesAreRejectedOrConsistent) {
  const std::string good = Safetensors()
                               .metadata("format", "\"pt\"")
                               .zeros("a", "BF16", "[2,3]", 12)
                               .zeros("b", "F32", "[1]", 4)
                               .bytes();
  size_t accepted = 0;
  for (size_t at = 0; at < good.size() - 16; ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(byte);
      auto header = read(bytes);
      if (!header.ok()) continue;
      ++accepted;
      uint64_t length = 0;
      std::memcpy(&length, bytes.data(), 8);
      const auto json = nlohmann::json::parse(bytes.substr(8, length), nullptr, false);
      ASSERT_FALSE(json.is_discarded()) << bytes.substr(8);
      uint64_t end = 8 + length;
      for (const TensorEntry& tensor : header->tensors) {
        ASSERT_TRUE(json.contains(tensor.name));
        EXPECT_EQ(json[tensor.name]["dtype"], std::string(name_of(tensor.dtype)));
        EXPECT_EQ(tensor.offset, end);
        end += tensor.nbytes;
      }
      EXPECT_EQ(end, bytes.size());
    }
  }
  EXPECT_GT(accepted, 300u);  // letters of names, blanks, the metadata's text
}

// The scanner's definition is the parser: what it accepts, the parser accepts with equal tensors.
void expect_scanner_agrees(const std::string& header, bool* scanned = nullptr) {
  SafetensorsHeader quick;
  const bool accepted = scan_safetensors_header(header, quick);
  if (scanned != nullptr) *scanned = accepted;
  if (!accepted) return;
  const std::string padded = header + std::string(kHeaderPadding, '\0');
  const std::string path = "m";
  const OpenOptions options;
  auto parsed =
      SafetensorsParser({padded.data(), padded.size()}, header.size(), UINT64_MAX, path, options)
          .parse();
  ASSERT_TRUE(parsed.ok()) << header << parsed.error().text();
  EXPECT_EQ(quick.metadata, parsed->metadata);
  ASSERT_EQ(quick.tensors.size(), parsed->tensors.size());
  for (size_t i = 0; i < quick.tensors.size(); ++i) {
    const TensorEntry& a = quick.tensors[i];
    const TensorEntry& b = parsed->tensors[i];
    EXPECT_EQ(std::tie(a.name, a.dtype, a.shape, a.offset, a.nbytes),
              std::tie(b.name, b.dtype, b.shape, b.offset, b.nbytes));
  }
}

TEST(SafetensorsScanner, AgreesWithTheParserWhateverAByteIsChangedTo) {
  const std::string good = Safetensors()
                               .metadata("format", "\"pt\"")
                               .zeros("a", "BF16", "[2,3]", 12)
                               .zeros("b\u00e9", "F32", "[]", 4)
                               .zeros("c", "F4", "[2,10]", 10)
                               .zeros("d", "F32", "[1]", 4)
                               .header() +
                           "  ";
  bool scanned = false;
  expect_scanner_agrees(good, &scanned);
  EXPECT_TRUE(scanned);
  for (size_t at = 0; at < good.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string header = good;
      header[at] = static_cast<char>(byte);
      expect_scanner_agrees(header);
    }
    expect_scanner_agrees(good.substr(0, at), &scanned);
    EXPECT_EQ(scanned, at >= good.size() - 2) << at;  // the blanks behind may go
    expect_scanner_agrees(good.substr(0, at) + good.substr(at + 1));
    expect_scanner_agrees(good.substr(0, at) + "0" + good.substr(at));
    expect_scanner_agrees(good.substr(0, at) + " " + good.substr(at), &scanned);
  }
}

TEST(SafetensorsScanner, LeavesWhatIsUnusualToTheParser) {
  const char* unusual[] = {
      R"({})",
      R"({ "a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      R"({"a":{"shape":[1],"dtype":"U8","data_offsets":[0,1]}})",
      R"({"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      R"({"a":{"dtype":"U8","shape":[01],"data_offsets":[0,1]}})",
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]}})",
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":{}})",
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}})",
      R"({"a":{"dtype":"u8","shape":[1],"data_offsets":[0,1]}})",
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],)"
      R"("data_offsets":[1,2]}})",
      R"({"__metadata__":{"a":"1","a":"2"}})"};
  for (const char* header : unusual) {
    SafetensorsHeader out;
    EXPECT_FALSE(scan_safetensors_header(header, out)) << header;
  }
}

}  // namespace
}  // namespace loadstone::formats
