// The conformance kit by itself, for ctest and for plugin authors without the command line.
//   plugin_check FILE.so [--seconds N] [--method NAME]
//       [--checkpoint MODEL --adapters DIR] [--here]
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "conformance/conformance.hpp"

int main(int argc, char** argv) {
  loadstone::conformance::Options options;
  std::string library;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--seconds" && i + 1 < argc) {
      options.seconds = std::atof(argv[++i]);
    } else if (word == "--method" && i + 1 < argc) {
      options.method = argv[++i];
    } else if (word == "--checkpoint" && i + 1 < argc) {
      options.checkpoint = argv[++i];
    } else if (word == "--adapters" && i + 1 < argc) {
      options.adapters = argv[++i];
    } else if (word == "--here") {
      options.isolate = false;
    } else if (library.empty() && !word.starts_with("--")) {
      library = word;
    } else {
      std::fputs(
          "usage: plugin_check FILE.so [--seconds N] [--method NAME] "
          "[--checkpoint MODEL --adapters DIR] [--here]\n",
          stderr);
      return 2;
    }
  }
  const auto report = loadstone::conformance::check(library, options);
  if (!report.ok()) {
    std::fprintf(stderr, "%s\n", report.error().text().c_str());
    return 2;
  }
  std::fputs(report->text().c_str(), stdout);
  return report->passed() ? 0 : 1;
}
