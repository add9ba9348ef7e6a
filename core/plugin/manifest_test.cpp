#include <gmock/gmock.h>

#include "plugin/testing/plugin_folder.hpp"

namespace loadstone::plugin {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

class ManifestTest : public testing::PluginFolder {
 protected:
  std::string error_of(const std::string& text) {
    write("faulty.so", "");
    write("faulty.info", text);
    const auto read = read_manifest(path("faulty.info"));
    if (read.ok()) return "read";
    std::string out = plain(read.error().text());
    const std::string common = "plugin manifest rejected: faulty.info: ";
    return out.starts_with(common) ? out.substr(common.size()) : out;
  }
};

TEST_F(ManifestTest, IsReadWhole) {
  write("faulty.so", "");
  write("faulty.info", R"(; a comment
name     faulty
version  "1.0 beta"
licence  MIT
abi      0.1
summary  "does wrong"
methods { faulty { alias bad  alias "very-bad" { scheme worst } } second { } }
claims
{
  claim { method faulty  origin gguf }
  claim { method second  origin quantization_config  quant_method x  format y  algorithm z }
}
)");
  const auto read = read_manifest(path("faulty.info"));
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(read->version, "1.0 beta");
  EXPECT_EQ(read->abi_minor, 1u);
  EXPECT_THAT(read->methods, ElementsAre("faulty", "second"));
  EXPECT_THAT(read->aliases, ElementsAre("bad faulty", "very-bad faulty"));
  ASSERT_EQ(read->implied.size(), 1u);
  EXPECT_EQ(read->implied.at("very_bad").at("scheme"), "worst");
  ASSERT_EQ(read->claims.size(), 2u);
  EXPECT_EQ(read->claims[0].quant_method, "");
  EXPECT_EQ(read->claims[1].algorithm, "z");
  EXPECT_EQ(read->library, path("faulty.so"));
}

TEST_F(ManifestTest, EachMistakeIsNamed) {
  const std::string good = manifest();
  const std::string head = "version 1\nlicence MIT\nabi 0.1\nsummary s\n";
  EXPECT_EQ(error_of(good), "read");
  EXPECT_EQ(error_of(""), "found abi \"\", expected \"MAJOR.MINOR\"");
  EXPECT_EQ(error_of(good + "sumary x\n"),
            "found unknown key \"sumary\", expected name, version, licence, summary, abi, methods "
            "or claims; did you mean summary?");
  EXPECT_EQ(error_of(good + "name again\n"), "found a second \"name\"");
  EXPECT_EQ(error_of("name other\nmethods { a }\n" + head),
            "found name \"other\", expected the file's \"faulty\" of [a-z0-9_]");
  EXPECT_EQ(error_of("name faulty\n" + head), "found no method");
  EXPECT_EQ(error_of("name faulty\nmethods { A-b }\n" + head),
            "found method \"A-b\", expected [a-z0-9_]");
  EXPECT_EQ(error_of("name faulty\nmethods { a { nick b } }\n" + head),
            "found \"nick\" in a method, expected \"alias\"");
  EXPECT_EQ(error_of("name faulty\nmethods { a }\nclaims { claim { method b } }\n" + head),
            "found a claim for \"b\", expected one of its methods: a");
  EXPECT_EQ(
      error_of("name faulty\nmethods { a }\nclaims { claim { method a  colour red } }\n" + head),
      "found unknown claim key \"colour\"");
  EXPECT_EQ(error_of("name faulty\nmethods { a }\nversion 1\nlicence MIT\nabi 0.1x\nsummary s\n"),
            "found abi \"0.1x\", expected \"MAJOR.MINOR\"");
  EXPECT_THAT(error_of(good + "methods {\n"), StartsWith("line "));
}

TEST_F(ManifestTest, S38_DirectivesDepthAndSizeAreBounded) {
  write("secret.info", "name faulty\n");
  EXPECT_EQ(error_of("#include \"secret.info\"\n" + manifest()),
            "found a '#' directive, expected plain keys");
  EXPECT_EQ(error_of(std::string(9, '{')), "found more than 8 levels");
  std::string deep;
  for (int i = 0; i < 30000; ++i) deep += "a {";
  EXPECT_NE(error_of(deep), "read");
  EXPECT_NE(error_of(manifest() + "; " + std::string(70000, 'x') + "\n"), "read");
}

}  // namespace
}  // namespace loadstone::plugin
