// Security checklist S38: where plugins may come from. And what the registry knows about them.
#include "plugin/registry.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/testing/plugin_folder.hpp"

namespace loadstone::plugin {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

class RegistryTest : public testing::PluginFolder {
 protected:
  void SetUp() override {
    PluginFolder::SetUp();
    unsetenv("LOADSTONE_PLUGIN_PATH");
  }
  void TearDown() override {
    unsetenv("LOADSTONE_PLUGIN_PATH");
    PluginFolder::TearDown();
  }
  Result<Registry> scan() const { return Registry::scan({{folder_}, false}); }
  std::string scan_error() const {
    const auto scanned = scan();
    return scanned.ok() ? "scanned" : plain(scanned.error().text());
  }
  static std::string only_root_or_you(const std::string& what, const std::string& found) {
    return "plugin refused: " + what + ": found " + found +
           ", expected a file and folder that only you or root can write";
  }
};

TEST_F(RegistryTest, ScanOpensNothing) {
  install("static_throw");
  const auto registry = scan();
  ASSERT_TRUE(registry.ok()) << registry.error().text();
  ASSERT_EQ(registry->manifests().size(), 1u);
  EXPECT_EQ(registry->manifests()[0].name, "faulty");
  EXPECT_EQ(registry->manifests()[0].library, path("faulty.so"));
}

TEST_F(RegistryTest, S38_WorldWritableLibraryManifestOrFolder) {
  install("none");
  chmod(path("faulty.so").c_str(), 0666);
  EXPECT_EQ(scan_error(), only_root_or_you("faulty.so", "writable by everyone"));
  chmod(path("faulty.so").c_str(), 0644);
  chmod(path("faulty.info").c_str(), 0646);
  EXPECT_EQ(scan_error(), only_root_or_you("faulty.info", "writable by everyone"));
  chmod(path("faulty.info").c_str(), 0644);
  chmod(folder_.c_str(), 0777);
  EXPECT_EQ(scan_error(), only_root_or_you(folder_, "writable by everyone"));
  chmod(folder_.c_str(), 0755);
  EXPECT_EQ(scan_error(), "scanned");
}

TEST_F(RegistryTest, S38_ForeignOwnerAndGroup) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  install("none");
  ASSERT_EQ(chown(path("faulty.so").c_str(), 12345, 0), 0);
  // Root trusts nobody else's files; a user trusts root's and their own.
  EXPECT_EQ(scan_error(), only_root_or_you("faulty.so", "owner 12345"));
  ASSERT_EQ(chown(path("faulty.so").c_str(), 0, 12345), 0);
  chmod(path("faulty.so").c_str(), 0664);
  EXPECT_EQ(scan_error(), only_root_or_you("faulty.so", "writable by group 12345"));
  ASSERT_EQ(chown(path("faulty.so").c_str(), 0, getegid()), 0);
  EXPECT_EQ(scan_error(), "scanned");
}

TEST_F(RegistryTest, S38_LinkOutOfTheFolder) {
  install("none");
  const std::string outside = folder_ + "-outside.so";
  std::filesystem::rename(path("faulty.so"), outside);
  std::filesystem::create_symlink(outside, path("faulty.so"));
  EXPECT_EQ(scan_error(), "plugin refused: faulty.so: found a link to \"" + outside +
                              "\", expected a file inside its folder");
  std::filesystem::remove(outside);
}

TEST_F(RegistryTest, S38_RelativeFoldersAreRefused) {
  setenv("LOADSTONE_PLUGIN_PATH", "/usr:plugins", 1);
  const auto dirs = plugin_dirs("/nowhere/bin", {});
  ASSERT_FALSE(dirs.ok());
  EXPECT_THAT(dirs.error().text(),
              StartsWith("plugin path rejected: LOADSTONE_PLUGIN_PATH: found relative entry "
                         "\"plugins\", expected an absolute one; did you mean /"));
  const auto scanned = Registry::scan({{"plugins"}, false});
  ASSERT_FALSE(scanned.ok());
  EXPECT_EQ(scanned.error().text(),
            "plugin path rejected: plugins: found a relative folder, expected an absolute one");
}

TEST_F(RegistryTest, S38_RelativePluginDirIsTakenFromTheWorkingDirectoryOnce) {
  const std::string extra[] = {"some/plugins"};
  const auto dirs = plugin_dirs("/nowhere/bin", extra);
  ASSERT_TRUE(dirs.ok());
  EXPECT_EQ(dirs->back(), std::filesystem::current_path().string() + "/some/plugins");
}

TEST_F(RegistryTest, S38_WorkingDirectoryAndLibraryPathAreNotSearched) {
  install("none");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder_);
  setenv("LD_LIBRARY_PATH", folder_.c_str(), 1);
  const auto dirs = plugin_dirs("/nowhere/bin", {});
  std::filesystem::current_path(before);
  unsetenv("LD_LIBRARY_PATH");
  ASSERT_TRUE(dirs.ok());
  EXPECT_THAT(*dirs, ::testing::Not(::testing::Contains(folder_)));
}

TEST_F(RegistryTest, DirsComeInOrderWithoutRepeats) {
  std::filesystem::create_directories(path("bin"));
  std::filesystem::create_directories(path("plugins"));
  setenv("LOADSTONE_PLUGIN_PATH", (path("a") + "::" + path("plugins")).c_str(), 1);
  const std::string extra[] = {path("a"), path("b")};
  const auto dirs = plugin_dirs(path("bin"), extra);
  ASSERT_TRUE(dirs.ok());
  EXPECT_THAT(*dirs, ElementsAre(path("plugins"), path("a"), path("b")));
}

TEST_F(RegistryTest, S39_LibraryAndManifestComeTogether) {
  install("none");
  std::filesystem::remove(path("faulty.info"));
  EXPECT_EQ(scan_error(), "plugin without manifest: faulty.so: expected faulty.info beside it");
  std::filesystem::remove(path("faulty.so"));
  write("faulty.info", manifest());
  EXPECT_EQ(scan_error(), "plugin without library: faulty.info: expected faulty.so beside it");
}

TEST_F(RegistryTest, S39_OneMethodFromTwoPlugins) {
  install("none");
  std::filesystem::copy_file(path("faulty.so"), path("second.so"));
  write("second.info", manifest("second"));
  EXPECT_EQ(scan_error(),
            "method offered twice: second.info: found \"faulty\" in faulty.info too, expected one "
            "plugin for it");
}

TEST_F(RegistryTest, FolderThatIsNotThere) {
  const auto scanned = Registry::scan({{path("nothing")}, false});
  ASSERT_FALSE(scanned.ok());
  EXPECT_EQ(plain(scanned.error().text()),
            "plugin folder not found: nothing: found no folder, expected plugins in it");
}

TEST_F(RegistryTest, MethodsAreFoundByAnySpellingAndMissesNameTheNearest) {
  install("none");
  write("refused_formats.yaml", "torchao: \"pickled subclasses\"\n");
  auto registry = scan();
  ASSERT_TRUE(registry.ok()) << registry.error().text();
  const auto method = registry->method("FAULTY");
  ASSERT_TRUE(method.ok()) << method.error().text();
  EXPECT_EQ(method->name(), "faulty");
  EXPECT_EQ(method->plugin(), "faulty");
  EXPECT_EQ(registry->method("fualty").error().text(),
            "unknown method: found \"fualty\", expected faulty; did you mean \"faulty\"?");
  const auto refused = registry->method("TorchAO");
  EXPECT_EQ(refused.error().text(), "format not supported: \"TorchAO\": pickled subclasses");
  EXPECT_EQ(refused.error().code, Code::unsupported);
}

TEST_F(RegistryTest, SchemasComeFromDescriptorsAndRefusedFormatsFromData) {
  install("none");
  write("refused_formats.yaml", "quark: \"AMD\"\n");
  auto registry = scan();
  ASSERT_TRUE(registry.ok());
  const auto schemas = registry->schemas();
  ASSERT_TRUE(schemas.ok()) << schemas.error().text();
  ASSERT_EQ(schemas->methods.size(), 1u);
  const config::MethodSchema& schema = schemas->methods[0];
  EXPECT_EQ(schema.method, "faulty");
  ASSERT_EQ(schema.fields.size(), 1u);
  EXPECT_EQ(schema.fields[0].name, "fault");
  EXPECT_EQ(schema.fields[0].type, config::FieldType::text);
  EXPECT_EQ(schema.fields[0].fallback, Node::of_text(""));
  EXPECT_EQ(schemas->refused.at("quark"), "AMD");
}

TEST_F(RegistryTest, ShippedListOfRefusedFormatsIsReadable) {
  std::filesystem::copy_file(std::string(LOADSTONE_SOURCE_DIR) + "/plugins/refused_formats.yaml",
                             path("refused_formats.yaml"));
  auto registry = scan();
  ASSERT_TRUE(registry.ok()) << registry.error().text();
  const auto schemas = registry->schemas();
  ASSERT_TRUE(schemas.ok());
  for (const char* name : {"bitsandbytes", "svdquant", "torchao", "quark"}) {
    EXPECT_TRUE(schemas->refused.contains(name)) << name;
  }
}

TEST_F(RegistryTest, ClaimsMatchFoldedAndTheMostSpecificWins) {
  install("none");
  std::filesystem::copy_file(path("faulty.so"), path("narrow.so"));
  write("narrow.info",
        "name narrow\nversion 1\nlicence MIT\nabi 0.1\nsummary s\nmethods { narrow }\n"
        "claims { claim { method narrow\n origin quantization_config\n quant_method faulty\n"
        " format \"pack-quantized\" } }\n");
  const auto registry = scan();
  ASSERT_TRUE(registry.ok()) << registry.error().text();
  const auto method_of = [&](const char* quant_method, const char* format) {
    const Claim* claim = registry->claim_for("quantization_config", quant_method, format, "");
    return claim == nullptr ? std::string("none") : claim->method;
  };
  EXPECT_EQ(method_of("Faulty", ""), "faulty");
  EXPECT_EQ(method_of("faulty", "PACK_QUANTIZED"), "narrow");
  EXPECT_EQ(method_of("other", "pack-quantized"), "none");
}

TEST_F(RegistryTest, DeclarationsAreReadThroughNodes) {
  install("none");
  auto registry = scan();
  ASSERT_TRUE(registry.ok());
  const auto declaration = parse_json(
      R"({"quant_method":"faulty","b":true,"i":-3,"n":1.5,"none":null,"l":[1,"x"],"m":{"k":2}})",
      "config.json");
  ASSERT_TRUE(declaration.ok());
  const Claim* claim = registry->claim_for("quantization_config", "faulty", "", "");
  ASSERT_NE(claim, nullptr);
  const auto reading = registry->read_declaration(*claim, *declaration);
  ASSERT_TRUE(reading.ok()) << reading.error().text();
  EXPECT_EQ(reading->method, "faulty");
  ASSERT_EQ(reading->fields.size(), 1u);
  EXPECT_EQ(reading->fields[0].pattern, "blocks.0");
  EXPECT_EQ(reading->fields[0].style, static_cast<uint32_t>(LS_STYLE_PREFIX));
  EXPECT_EQ(
      reading->fields[0].value.text(),
      "quant_method=4:faulty;b=1:true;i=2:-3;n=3:1.5;none=0:null;l=6:[1,\"x\"];m=7:{\"k\":2};");
  ASSERT_EQ(reading->scopes.size(), 1u);
  EXPECT_EQ(reading->scopes[0].pattern, "*.mlp");
  EXPECT_TRUE(reading->scopes[0].keep);
}

TEST_F(RegistryTest, S40_DeclarationAnswersAreChecked) {
  install("none");
  auto registry = scan();
  ASSERT_TRUE(registry.ok());
  const Claim* claim = registry->claim_for("quantization_config", "faulty", "", "");
  ASSERT_NE(claim, nullptr);
  const auto error = [&](const char* json) {
    const auto node = parse_json(json, "");
    const auto reading = registry->read_declaration(*claim, *node);
    return reading.ok() ? "read" : reading.error().text();
  };
  EXPECT_EQ(error(R"({"unknown_field":1})"),
            "faulty read_declaration failed: 1:1: found unknown field \"never_declared\"");
  EXPECT_EQ(error(R"({"bad_style":1})"),
            "faulty read_declaration failed: 1:1: declare_field: found unknown style");
}

}  // namespace
}  // namespace loadstone::plugin
