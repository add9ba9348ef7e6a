// config_oracle [--oracle FILE]: recorded answers of the reference against ours.
// Ends with one line: agree N, intended N, pending N, unexpected N. Exit code 0 when nothing is
// unexpected, 1 otherwise, 2 for a wrong input, 77 without the recorded file.
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>

#include "answer.hpp"
#include "base/file.hpp"
#include "base/testing/shared.hpp"
#include "differences.hpp"
#include "graph/graph.hpp"

namespace {

using namespace loadstone;  // NOLINT a program's main file

struct Counts {
  uint64_t agree = 0, intended = 0, pending = 0, unexpected = 0;
};

void judge(const Node& entry, oracle::Bench& bench, std::vector<oracle::Rule>& rules,
           Counts& counts, std::map<std::string, uint64_t>& waiting) {
  const std::string kind = entry.find("kind")->text();
  const Node& input = *entry.find("input");
  const Node& result = *entry.find("result");
  const oracle::Answer ours = oracle::answer(kind, input, bench);
  if (ours.kind == oracle::Answer::Kind::pending) {
    ++counts.pending;
    ++waiting[ours.error];
    return;
  }
  const std::string differs = oracle::difference(kind, result, ours);
  if (differs.empty()) {
    ++counts.agree;
    return;
  }
  if (oracle::Rule* rule = oracle::rule_for(rules, kind, input, result, ours, differs)) {
    ++rule->covered;
    ++counts.intended;
    return;
  }
  ++counts.unexpected;
  std::printf("unexpected %s\n  input    %s\n  recorded %s\n  ours     %s\n",
              entry.find("id")->text().c_str(), input.to_json().c_str(), result.to_json().c_str(),
              differs.c_str());
}

int fail(const Error& error) {
  std::fprintf(stderr, "config_oracle: %s\n", error.text().c_str());
  return 2;
}

int run(const std::string& path, bool shipped, const std::string& program_dir) {
  auto text = read_text(system_files(), path, 256u << 20);
  if (!text.ok()) return fail(text.error());
  JsonLimits limits;
  limits.max_nbytes = 256u << 20;
  auto entries = parse_json(*text, path, limits);
  if (!entries.ok()) return fail(entries.error());
  auto dirs = plugin::plugin_dirs(program_dir, {});
  if (!dirs.ok()) return fail(dirs.error());
  auto registry = plugin::Registry::scan(plugin::RegistryOptions{*dirs, true});
  if (!registry.ok()) return fail(registry.error());
  auto schemas = registry->schemas();
  if (!schemas.ok()) return fail(schemas.error());
  auto rules = oracle::read_rules(std::string(LOADSTONE_SOURCE_DIR) +
                                  "/tests/cases/intentional_differences.yaml");
  if (!rules.ok()) return fail(rules.error());
  const std::string adapters_dir = graph::adapters_dir(program_dir);
  auto known = plan::KnownComponents::read(adapters_dir);
  if (!known.ok()) return fail(known.error());
  oracle::Bench bench{&*registry, std::move(*schemas), std::move(*known), adapters_dir,
                      (testing::shared_folder() / "models/families").string()};
  Counts counts;
  std::map<std::string, uint64_t> waiting;
  for (const Node& entry : entries->items()) judge(entry, bench, *rules, counts, waiting);
  for (const auto& [why, number] : waiting) {
    std::printf("pending %llu: %s\n", static_cast<unsigned long long>(number), why.c_str());
  }
  bool idle = false;
  for (const oracle::Rule& rule : *rules) {
    std::printf("rule %llu: %s\n", static_cast<unsigned long long>(rule.covered),
                rule.name.c_str());
    idle = idle || rule.covered == 0;
  }
  std::printf("agree %llu, intended %llu, pending %llu, unexpected %llu\n",
              static_cast<unsigned long long>(counts.agree),
              static_cast<unsigned long long>(counts.intended),
              static_cast<unsigned long long>(counts.pending),
              static_cast<unsigned long long>(counts.unexpected));
  if (shipped && idle) std::fprintf(stderr, "config_oracle: a rule covers nothing\n");
  return counts.unexpected > 0 || (shipped && idle) ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string path = (testing::shared_folder() / "oracles/config-oracle.json").string();
  bool shipped = true;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--oracle" && i + 1 < argc) {
      path = argv[++i];
      shipped = false;
    } else {
      std::fprintf(stderr, "usage: config_oracle [--oracle FILE]\n");
      return 2;
    }
  }
  if (shipped && !std::filesystem::exists(path)) {
    std::fprintf(stderr, "skipped: no %s: set LOADSTONE_SHARED\n", path.c_str());
    return 77;
  }
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return run(path, shipped, self.parent_path().string());
}
