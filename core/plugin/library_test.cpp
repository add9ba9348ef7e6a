// Security checklist S39: libraries that are none, not ours, or not what their manifest says.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "base/file.hpp"
#include "plugin/elf_check.hpp"
#include "plugin/testing/plugin_folder.hpp"

namespace loadstone::plugin {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class LibraryTest : public testing::PluginFolder {
 protected:
  std::string content(const std::string& name) const {
    std::ifstream in(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

struct LoadFault {
  const char* fault;
  const char* text;
};

class LibraryFaults : public testing::PluginFolder,
                      public ::testing::WithParamInterface<LoadFault> {};

TEST_P(LibraryFaults, S39_IsRefusedNamingFileFoundAndExpected) {
  install(GetParam().fault);
  EXPECT_EQ(open_error(), GetParam().text);
}

INSTANTIATE_TEST_SUITE_P(
    S39, LibraryFaults,
    ::testing::Values(
        LoadFault{"none", "opened"}, LoadFault{"old_method", "opened"},
        LoadFault{"no_symbol",
                  "plugin refused: faulty.so: found no symbol loadstone_plugin_query, expected the "
                  "plugin's entry"},
        LoadFault{"query_throws",
                  "plugin refused: faulty.so: found an exception out of loadstone_plugin_query, "
                  "expected a descriptor"},
        LoadFault{"query_refuses",
                  "plugin refused: faulty.so: found no descriptor for this host: this host is too "
                  "plain"},
        LoadFault{"newer_abi",
                  "plugin refused: faulty.so: found ABI 7.1, expected 0.x (this host has 0.1)"},
        LoadFault{"short_plugin",
                  "plugin refused: faulty.so: found a descriptor of 16 bytes, expected at least "
                  "56"},
        LoadFault{"tiny_plugin", "plugin refused: faulty.so: found a descriptor without version"},
        LoadFault{
            "other_version",
            "plugin refused: faulty.so: found version \"9.9.9\", expected \"1.2.3\" as in its "
            "manifest"},
        LoadFault{
            "many_methods",
            "plugin refused: faulty.so: found 18446744073709551615 methods, expected 1 to 64"},
        LoadFault{"null_method",
                  "plugin refused: faulty.so: found method 0 null or shorter than its table up to "
                  "plan_layer"},
        LoadFault{"short_method",
                  "plugin refused: faulty.so: found method 0 null or shorter than its table up to "
                  "plan_layer"},
        LoadFault{"null_function",
                  "plugin refused: faulty.so: method \"faulty\": found a null plan_layer"},
        LoadFault{"field_count",
                  "plugin refused: faulty.so: method \"faulty\": found a null or too long array of "
                  "aliases, fields or claims"},
        LoadFault{"field_type",
                  "plugin refused: faulty.so: method \"faulty\": field \"fault\": found type 42, "
                  "expected 1 to 7"},
        LoadFault{"duplicate_method", "plugin refused: faulty.so: found method \"faulty\" twice"}),
    [](const auto& one) { return std::string(one.param.fault); });

TEST_F(LibraryTest, S39_UndefinedSymbolIsFoundWhileLoadingNotAtTheFirstCall) {
  install("undefined_symbol");
  EXPECT_THAT(open_error(), StartsWith("plugin refused: faulty.so: found "));
  EXPECT_THAT(open_error(), HasSubstr("undefined symbol: a_function_that_nobody_has"));
}

TEST_F(LibraryTest, S39_DefaultsThatAreNoJsonAreRefused) {
  install("bad_default");
  EXPECT_THAT(open_error(), StartsWith("plugin refused: faulty.so: method \"faulty\": field "
                                       "\"fault\": "));
}

TEST_F(LibraryTest, S40_StaticInitialiserThatThrowsIsCaught) {
  install("static_throw");
  EXPECT_EQ(open_error(),
            "plugin refused: faulty.so: found an exception from its static initialisers (thrown by "
            "a static initialiser), expected none");
  install("static_throw_int");
  EXPECT_EQ(open_error(),
            "plugin refused: faulty.so: found an exception from its static initialisers, expected "
            "none");
}

TEST_F(LibraryTest, S39_TextInsteadOfElf) {
  install("none");
  write("faulty.so", std::string(200, 'x'));
  EXPECT_EQ(open_error(),
            "plugin refused: faulty.so: found no ELF magic, expected a shared library");
  write("faulty.so", "x");
  EXPECT_EQ(open_error(),
            "plugin refused: faulty.so: found a file of 1 bytes, expected a shared library");
}

TEST_F(LibraryTest, S39_CutLibraryIsRefusedBeforeItIsMapped) {
  install("none");
  const std::string whole = content("faulty.so");
  size_t tried = 0;
  // Every cut inside the headers, then every 97 bytes: none may be loaded, none may end us.
  for (size_t cut = 0; cut < whole.size(); cut += cut < 600 ? 1 : 97, ++tried) {
    write("faulty.so", whole.substr(0, cut));
    ASSERT_THAT(open_error(), StartsWith("plugin refused: faulty.so: found ")) << "cut at " << cut;
  }
  EXPECT_GT(tried, 650u);
}

TEST_F(LibraryTest, S39_OtherArchitectureClassAndType) {
  install("none");
  const std::string whole = content("faulty.so");
  const auto with = [&](size_t at, char byte) {
    std::string changed = whole;
    changed[at] = byte;
    write("faulty.so", changed);
    return open_error();
  };
  EXPECT_EQ(with(18, 40),
            "plugin refused: faulty.so: found ELF machine 40, expected 62 (this "
            "machine's)");
  EXPECT_EQ(with(4, 1),
            "plugin refused: faulty.so: found another ELF class or byte order, "
            "expected 64-bit little-endian");
  EXPECT_EQ(with(16, 2),
            "plugin refused: faulty.so: found ELF type 2, expected a shared library "
            "(type 3)");
}

TEST_F(LibraryTest, ElfHeaderWithAnyByteChangedNeverReadsPastTheFile) {
  install("none");
  const std::string whole = content("faulty.so");
  for (size_t at = 0; at < 64 + 56 * 4; ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ flip);
      write("changed.bin", changed);
      const auto file = system_files().open(path("changed.bin"));
      ASSERT_TRUE(file.ok());
      (void)check_elf(**file, "changed.bin").ok();  // accepts or refuses; ASan watches
    }
  }
}

TEST_F(LibraryTest, S41_LibrariesStayOpenAndOpenOnce) {
  install("none");
  const auto first = open();
  ASSERT_TRUE(first.ok());
  const void* plan = reinterpret_cast<const void*>(first->table().plan_layer);
  {
    const auto second = open();
    ASSERT_TRUE(second.ok());
    EXPECT_EQ(reinterpret_cast<const void*>(second->table().plan_layer), plan);
  }
  // Still callable when every handle of ours but a bare table is gone.
  const ls_method table = first->table();
  ls_config* config = nullptr;
  EXPECT_EQ(table.configure(nullptr, 0, &config), LS_OK);
  table.config_destroy(config);
}

TEST_F(LibraryTest, S38_LibraryReplacedOnDiskIsNotTakenForTheEarlierOne) {
  install("none");
  const auto first = open();
  ASSERT_TRUE(first.ok());
  install("other_version");
  EXPECT_EQ(open_error(),
            "plugin refused: faulty.so: found version \"9.9.9\", expected \"1.2.3\" as in its "
            "manifest");
}

TEST_F(LibraryTest, EntriesBeyondAnOldTableReadAsNull) {
  install("old_method");
  const auto method = open();
  ASSERT_TRUE(method.ok());
  EXPECT_NE(method->table().begin, nullptr);
  EXPECT_EQ(method->table().dequantize, nullptr);
  EXPECT_EQ(method->table().apply, nullptr);
  EXPECT_EQ(method->table().struct_size, sizeof(ls_method));
}

TEST_F(LibraryTest, S39_ManifestThatDisagrees) {
  install("none");
  std::string text = manifest();
  text.replace(text.find("quant_method faulty"), 19, "quant_method other");
  write("faulty.info", text);
  EXPECT_EQ(open_error(),
            "plugin refused: faulty.so: manifest and library disagree on claims: found \"faulty "
            "(quantization_config, faulty, , )\" in the library alone");
  write("faulty.info", manifest() + "methods { second }\n");
  EXPECT_EQ(open_error(),
            "plugin refused: faulty.so: manifest and library disagree on methods: found \"second\" "
            "in the manifest alone");
  write("faulty.info", manifest() + "methods { second { alias bad { colour red } } }\n");
  EXPECT_EQ(
      open_error(),
      "plugin refused: faulty.so: found \"colour\" under alias \"bad\", expected a text field "
      "of the method");
}

}  // namespace
}  // namespace loadstone::plugin
