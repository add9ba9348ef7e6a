#include "switch.hpp"

#include <cstdio>
#include <cstdlib>

namespace mutation {
namespace {

int wanted() {
  const char* text = std::getenv("MUTANT");
  return text ? std::atoi(text) : -1;
}

/// Writes the numbers that were met when the program ends.
struct Met {
  ~Met() {
    const char* path = std::getenv("MUTANTS_MET");
    std::FILE* file = path ? std::fopen(path, "w") : nullptr;
    if (!file) return;
    for (int i = 0; i < MUTANTS; ++i) {
      if (met[i]) std::fprintf(file, "%d\n", i);
    }
    std::fclose(file);
  }
};
const Met at_end;

}  // namespace

const int active = wanted();
bool met[MUTANTS];

}  // namespace mutation
