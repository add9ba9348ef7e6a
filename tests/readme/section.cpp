#include "section.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/file.hpp"

namespace loadstone::testing {
namespace {

const std::string kReadme = std::string(LOADSTONE_SOURCE_DIR) + "/README.md";

}  // namespace

std::string markdown(const std::vector<std::vector<std::string>>& rows) {
  std::string out;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const std::string& cell : rows[i]) out += "| " + cell + " ";
    out += "|\n";
    if (i != 0) continue;
    for (size_t column = 0; column < rows[i].size(); ++column) out += "|---";
    out += "|\n";
  }
  return out;
}

void expect_section(const std::string& name, const std::string& text) {
  auto readme = read_text(system_files(), kReadme, 1u << 20);
  ASSERT_TRUE(readme.ok()) << readme.error().text();
  const std::string first = "<!-- " + name + " -->\n";
  const size_t begin = readme->find(first);
  const size_t end = readme->find("<!-- end of " + name + " -->");
  ASSERT_NE(begin, std::string::npos) << first;
  ASSERT_NE(end, std::string::npos) << "end of " << first;
  const size_t at = begin + first.size();
  const std::string found = readme->substr(at, end - at);
  if (std::getenv("LOADSTONE_WRITE_README") != nullptr && found != text) {
    readme->replace(at, end - at, text);
    std::ofstream(kReadme, std::ios::binary) << *readme;
    return;
  }
  EXPECT_EQ(found, text) << "the section \"" << name << "\" of the README should be:\n" << text;
}

}  // namespace loadstone::testing
