#include "formats/gguf.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <climits>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "base/checked.hpp"
#include "base/text.hpp"
#include "formats/gguf_cursor.hpp"
#include "formats/gguf_metadata.hpp"
#include "formats/name_table.hpp"
#include "formats/safetensors.hpp"
#include "formats/weight_files.hpp"

namespace loadstone::formats {
namespace {

constexpr uint64_t kHeadNbytes = 24;
constexpr uint64_t kLeastTensorNbytes = 24;  // empty name, rank 0
constexpr uint64_t kLeastKeyNbytes = 14;     // one letter, one byte
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr std::string_view kOriginalShape = "comfy.gguf.orig_shape.";

struct PlainType {
  uint32_t id;
  DType dtype;
};

// ggml's plain types; its block types keep their id (DType of kGgmlBase + id).
constexpr std::array<PlainType, 8> kPlainTypes = {{{0, DType::F32},
                                                   {1, DType::F16},
                                                   {24, DType::I8},
                                                   {25, DType::I16},
                                                   {26, DType::I32},
                                                   {27, DType::I64},
                                                   {28, DType::F64},
                                                   {30, DType::BF16}}};

std::optional<DType> dtype_of(uint32_t id) {
  for (const PlainType& row : kPlainTypes) {
    if (row.id == id) return row.dtype;
  }
  if (id >= kGgmlBase || !layout_of(ggml_dtype(id))) return std::nullopt;
  return ggml_dtype(id);
}

class GgufReader {
 public:
  GgufReader(const File& file, uint64_t file_nbytes, const OpenOptions& options)
      : path_(file.path()),
        file_nbytes_(file_nbytes),
        cursor_(file, file_nbytes, options.max_header_nbytes) {}

  Result<GgufFile> read() {
    LS_CHECK(read_head());
    LS_TRY(const std::vector<GgufKey> keys, read_gguf_keys(cursor_, key_count_));
    LS_CHECK(read_alignment(keys));
    LS_CHECK(read_split(keys));
    LS_CHECK(read_tensors());
    LS_CHECK(place_tensors());
    LS_CHECK(read_original_shapes(keys));
    // Trees are large beside the bytes they come from: built only once nothing can fail.
    out_.metadata = gguf_metadata(cursor_, keys);
    return std::move(out_);
  }

 private:
  Status read_head() {
    if (file_nbytes_ < kHeadNbytes) {
      return cursor_.rejected(
          fmt::format("found {} bytes, expected at least {} (too short: an "
                      "interrupted download?)",
                      file_nbytes_, kHeadNbytes));
    }
    LS_TRY(const ByteRange magic, cursor_.take(4));
    if (cursor_.view(magic) != "GGUF") {
      return cursor_.rejected(
          fmt::format("found magic {}, expected \"GGUF\"", loadstone::quoted(cursor_.view(magic))));
    }
    LS_TRY(const uint32_t version, cursor_.number<uint32_t>());
    if ((version & 0xFFFF) == 0 && version != 0) {
      return cursor_.rejected("found a file of the other byte order, expected little-endian");
    }
    if (version != 2 && version != 3) {
      return cursor_.rejected(fmt::format("found version {}, expected 2 or 3", version));
    }
    LS_TRY(tensor_count_, cursor_.number<uint64_t>());
    LS_TRY(key_count_, cursor_.number<uint64_t>());
    LS_CHECK(check_count("tensors", tensor_count_, kLeastTensorNbytes));
    return check_count("keys", key_count_, kLeastKeyNbytes);
  }

  Status check_count(std::string_view what, uint64_t count, uint64_t least_nbytes) const {
    const uint64_t most = std::min<uint64_t>(cursor_.rest() / least_nbytes, UINT32_MAX - 1);
    if (count <= most) return {};
    return cursor_.rejected(
        fmt::format("found {} {}, expected at most {} (what the rest of the "
                    "file can hold)",
                    count, what, most));
  }

  const GgufKey* find(const std::vector<GgufKey>& keys, std::string_view name) const {
    const auto at = std::find_if(keys.begin(), keys.end(), [&](const GgufKey& key) {
      return cursor_.view(key.name) == name;
    });
    return at == keys.end() ? nullptr : &*at;
  }

  Status read_alignment(const std::vector<GgufKey>& keys) {
    const GgufKey* key = find(keys, "general.alignment");
    if (key == nullptr) return {};
    if (key->type != GgufType::U32) {
      return cursor_.rejected("found general.alignment of another type, expected uint32");
    }
    alignment_ = cursor_.at<uint32_t>(key->value.offset);
    if (std::has_single_bit(alignment_) && alignment_ <= kMaxAlignment) return {};
    return cursor_.rejected(
        fmt::format("found general.alignment {}, expected a power of two of at "
                    "most {}",
                    alignment_, kMaxAlignment));
  }

  // Whole numbers of any width; nullopt for another type or a negative one.
  std::optional<uint64_t> whole_number(const GgufKey& key) const {
    switch (key.type) {
      case GgufType::U8:
        return cursor_.at<uint8_t>(key.value.offset);
      case GgufType::U16:
        return cursor_.at<uint16_t>(key.value.offset);
      case GgufType::U32:
        return cursor_.at<uint32_t>(key.value.offset);
      case GgufType::U64:
        return cursor_.at<uint64_t>(key.value.offset);
      case GgufType::I32: {
        const auto value = cursor_.at<int32_t>(key.value.offset);
        if (value >= 0) return static_cast<uint64_t>(value);
        return std::nullopt;
      }
      default:
        return std::nullopt;
    }
  }

  Status read_split(const std::vector<GgufKey>& keys) {
    const std::pair<std::string_view, uint64_t*> fields[] = {
        {"split.no", &out_.split.number},
        {"split.count", &out_.split.count},
        {"split.tensors.count", &out_.split.tensors},
    };
    for (const auto& [name, target] : fields) {
      const GgufKey* key = find(keys, name);
      if (key == nullptr) continue;
      const auto value = whole_number(*key);
      if (!value) {
        return cursor_.rejected(
            fmt::format("found {} that is no whole number, expected one", name));
      }
      *target = *value;
    }
    if (out_.split.count >= 1 && out_.split.number < out_.split.count) return {};
    return cursor_.rejected(
        fmt::format("found part {} of {} (split.no, split.count), expected a "
                    "part below the count",
                    out_.split.number, out_.split.count));
  }

  Status read_tensors() {
    out_.tensors.reserve(tensor_count_);
    for (uint64_t i = 0; i < tensor_count_; ++i) LS_CHECK(read_tensor());
    const auto repeated = names_.first_repeated(
        [&](uint32_t i) -> const std::string& { return out_.tensors[i].name; });
    if (!repeated) return {};
    return cursor_.rejected(fmt::format("found duplicate tensor {}, expected it once",
                                        loadstone::quoted(out_.tensors[*repeated].name)));
  }

  Status read_tensor() {
    LS_TRY(const ByteRange name, cursor_.text("a tensor name", kMaxNameNbytes));
    TensorEntry& tensor = out_.tensors.emplace_back();
    tensor.name = cursor_.view(name);
    names_.add(tensor.name);
    if (tensor.name.empty()) return cursor_.rejected("found an empty tensor name, expected a name");
    LS_TRY(const uint32_t rank, cursor_.number<uint32_t>());
    if (rank > kMaxDims) {
      return rejected(tensor, fmt::format("found {} dims, expected at most {}", rank, kMaxDims));
    }
    for (uint32_t i = 0; i < rank; ++i) {
      LS_TRY(const int64_t dim, cursor_.number<int64_t>());
      if (dim <= 0) return rejected(tensor, fmt::format("found dim {}, expected 1 or more", dim));
      tensor.shape.push_back(static_cast<uint64_t>(dim));
    }
    std::reverse(tensor.shape.begin(), tensor.shape.end());
    LS_TRY(const uint32_t type, cursor_.number<uint32_t>());
    const auto dtype = dtype_of(type);
    if (!dtype) {
      return rejected(tensor, fmt::format("found ggml type {}, expected one that exists (0 to 42 "
                                          "without removed ones)",
                                          static_cast<int32_t>(type)));
    }
    tensor.dtype = *dtype;
    LS_TRY(tensor.offset, cursor_.number<uint64_t>());
    return measure(tensor);
  }

  Status measure(TensorEntry& tensor) const {
    const DTypeLayout layout = *layout_of(tensor.dtype);
    const uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (row % layout.block_elems != 0) {
      return rejected(tensor, fmt::format("found {} elements a row, expected a multiple of {} for "
                                          "{}",
                                          row, layout.block_elems, name_of(tensor.dtype)));
    }
    const auto numel = checked_numel({tensor.shape.data(), tensor.shape.size()});
    const auto nbytes =
        numel ? checked_mul(*numel / layout.block_elems, layout.block_nbytes) : std::nullopt;
    if (!nbytes || *numel > static_cast<uint64_t>(INT64_MAX)) {
      return rejected(tensor, "found dims whose product overflows, expected fewer elements");
    }
    tensor.nbytes = *nbytes;
    return {};
  }

  // Offsets become absolute; they must be the running sum of padded sizes.
  Status place_tensors() {
    const auto begin = checked_align(cursor_.offset(), alignment_);
    uint64_t expected = 0;
    uint64_t end = 0;
    for (TensorEntry& tensor : out_.tensors) {
      if (tensor.offset != expected) {
        return rejected(tensor, fmt::format("found offset {}, expected {} (the end of what lies "
                                            "before, padded to {})",
                                            tensor.offset, expected, alignment_));
      }
      const auto absolute = checked_add(*begin, expected);
      const auto last = absolute ? checked_add(*absolute, tensor.nbytes) : std::nullopt;
      const auto next = last ? checked_align(expected + tensor.nbytes, alignment_) : std::nullopt;
      if (!next || *last > file_nbytes_) {
        return rejected(tensor,
                        fmt::format("found {} bytes at byte {}, expected its end within the "
                                    "file's {} bytes (an interrupted download?)",
                                    tensor.nbytes, *begin + expected, file_nbytes_));
      }
      tensor.offset = *absolute;
      expected = *next;
      end = *last;
    }
    const auto padded = checked_align(end, alignment_);
    if (!out_.tensors.empty() && padded && file_nbytes_ > *padded) {
      out_.notes.push_back(fmt::format("{}: {} bytes behind the last tensor are not read",
                                       escaped(path_, PATH_MAX), file_nbytes_ - *padded));
    }
    return {};
  }

  // city96's converter stores what has no whole blocks a row as rows of 256, and notes the shape.
  Status read_original_shapes(const std::vector<GgufKey>& keys) {
    std::unordered_map<std::string_view, uint32_t> by_name;
    for (const GgufKey& key : keys) {
      std::string_view name = cursor_.view(key.name);
      if (!name.starts_with(kOriginalShape)) continue;
      if (by_name.empty()) {
        for (uint32_t i = 0; i < out_.tensors.size(); ++i) by_name[out_.tensors[i].name] = i;
      }
      name.remove_prefix(kOriginalShape.size());
      const auto at = by_name.find(name);
      if (at == by_name.end()) continue;  // in another part of a split set
      TensorEntry& tensor = out_.tensors[at->second];
      LS_TRY(const std::vector<uint64_t> shape, original_shape(key, tensor));
      const uint64_t row = shape.empty() ? 1 : shape.back();
      if (row % layout_of(tensor.dtype)->block_elems == 0) {
        tensor.shape.assign(shape.begin(), shape.end());
      } else {
        out_.reshaped.emplace_back(at->second, shape);
      }
    }
    return {};
  }

  Result<std::vector<uint64_t>> original_shape(const GgufKey& key,
                                               const TensorEntry& tensor) const {
    std::vector<uint64_t> shape;
    if (key.type == GgufType::ARRAY && key.element == GgufType::I32 && key.count <= kMaxRank) {
      for (uint64_t i = 0; i < key.count; ++i) {
        const auto dim = cursor_.at<int32_t>(key.value.offset + i * sizeof(int32_t));
        shape.push_back(dim > 0 ? static_cast<uint64_t>(dim) : 0);
      }
      if (checked_numel(shape) == checked_numel({tensor.shape.data(), tensor.shape.size()})) {
        return shape;
      }
    }
    return rejected(tensor, fmt::format("found {}, expected an array of int32 whose product is the "
                                        "tensor's",
                                        loadstone::quoted(cursor_.view(key.name))));
  }

  Error rejected(const TensorEntry& tensor, std::string detail) const {
    return Error{Code::invalid_checkpoint, "gguf tensor rejected",
                 escaped(path_, PATH_MAX) + ": " + escaped(tensor.name), std::move(detail)};
  }

  const std::string& path_;
  const uint64_t file_nbytes_;
  GgufCursor cursor_;
  uint64_t tensor_count_ = 0;
  uint64_t key_count_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
  NameHashes names_;
  GgufFile out_;
};

}  // namespace

Result<GgufFile> read_gguf(const File& file, uint64_t file_nbytes, const OpenOptions& options) {
  return GgufReader(file, file_nbytes, options).read();
}

std::optional<std::vector<std::string>> gguf_part_names(const std::string& name, uint64_t count) {
  // "-00001-of-00002.gguf": five digits each, as gguf-split writes them.
  constexpr size_t kTail = sizeof("-00001-of-00002.gguf") - 1;
  if (name.size() < kTail || count > 99999) return std::nullopt;
  const std::string stem = name.substr(0, name.size() - kTail);
  std::vector<std::string> names;
  bool is_part = false;
  for (uint64_t i = 1; i <= count; ++i) {
    names.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", stem, i, count));
    is_part = is_part || names.back() == name;
  }
  if (!is_part) return std::nullopt;
  return names;
}

uint64_t gguf_count_of_name(const std::string& name) {
  return shard_total(name, ".gguf").value_or(1);
}

}  // namespace loadstone::formats
