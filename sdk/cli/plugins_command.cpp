// loadstone plugins list: manifests, no library is opened.
#include <fmt/format.h>

#include "base/text.hpp"
#include "commands.hpp"
#include "exit_code.hpp"
#include "session.hpp"
#include "table.hpp"

namespace loadstone::cli {
namespace {

Node texts(const std::vector<std::string>& values) {
  std::vector<Node> items;
  for (const std::string& value : values) items.push_back(Node::of_text(value));
  return Node::of_list(std::move(items));
}

Node claim_node(const plugin::Claim& claim) {
  return Node::of_map({{"method", Node::of_text(claim.method)},
                       {"origin", Node::of_text(claim.origin)},
                       {"quant_method", Node::of_text(claim.quant_method)},
                       {"format", Node::of_text(claim.format)},
                       {"algorithm", Node::of_text(claim.algorithm)}});
}

Node manifest_node(const plugin::Manifest& manifest) {
  std::vector<Node> claims;
  for (const auto& claim : manifest.claims) claims.push_back(claim_node(claim));
  return Node::of_map(
      {{"name", Node::of_text(manifest.name)},
       {"version", Node::of_text(manifest.version)},
       {"abi", Node::of_text(fmt::format("{}.{}", manifest.abi_major, manifest.abi_minor))},
       {"summary", Node::of_text(manifest.summary)},
       {"licence", Node::of_text(manifest.licence)},
       {"methods", texts(manifest.methods)},
       {"aliases", texts(manifest.aliases)},
       {"claims", Node::of_list(std::move(claims))},
       {"manifest", Node::of_text(manifest.path)},
       {"library", Node::of_text(manifest.library)}});
}

std::string for_people(const std::vector<plugin::Manifest>& manifests) {
  Table table({{"plugin"}, {"version"}, {"abi"}, {"methods"}, {"summary"}, {"library"}});
  for (const auto& manifest : manifests) {
    table.add({escaped(manifest.name), escaped(manifest.version),
               fmt::format("{}.{}", manifest.abi_major, manifest.abi_minor),
               escaped(join(manifest.methods, ", ")), escaped(manifest.summary),
               escaped(manifest.library)});
  }
  return table.text();
}

}  // namespace

Result<int> run(const PluginsListOptions& options) {
  LS_TRY(const Places places, find_places(options.common.plugin_dirs));
  plugin::RegistryOptions scan;
  scan.dirs = places.plugin_dirs;
  LS_TRY(const plugin::Registry registry, plugin::Registry::scan(scan));
  if (!options.json) {
    LS_CHECK(print(for_people(registry.manifests())));
    return kFine;
  }
  std::vector<Node> items;
  for (const auto& manifest : registry.manifests()) items.push_back(manifest_node(manifest));
  const Node out = Node::of_map({{"plugins", Node::of_list(std::move(items))}});
  LS_CHECK(print(out.to_json(2) + "\n"));
  return kFine;
}

}  // namespace loadstone::cli
