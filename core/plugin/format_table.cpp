#include "plugin/format_table.hpp"

#include <algorithm>
#include <tuple>

#include "base/text.hpp"

namespace loadstone::plugin {
namespace {

auto key_of(const DeclaredFormat& line) {
  return std::tie(line.quant_method, line.format, line.algorithm, line.method);
}

void add_claim(const Manifest& manifest, const Claim& claim, std::vector<DeclaredFormat>& out) {
  DeclaredFormat line{claim.quant_method,
                      claim.format,
                      claim.algorithm,
                      {claim.origin},
                      claim.method,
                      manifest.name,
                      ""};
  for (DeclaredFormat& known : out) {
    if (key_of(known) != key_of(line)) continue;
    known.origins.push_back(claim.origin);
    return;
  }
  out.push_back(std::move(line));
}

}  // namespace

std::string DeclaredFormat::name() const {
  std::vector<std::string> parts;
  for (const std::string& part : {quant_method, format, algorithm}) {
    if (!part.empty()) parts.push_back(part);
  }
  return join(parts, ", ");
}

Result<std::vector<DeclaredFormat>> format_table(Registry& registry) {
  std::vector<DeclaredFormat> out;
  for (const Manifest& manifest : registry.manifests()) {
    for (const Claim& claim : manifest.claims) add_claim(manifest, claim, out);
  }
  std::stable_sort(out.begin(), out.end(), [](const DeclaredFormat& a, const DeclaredFormat& b) {
    return key_of(a) < key_of(b);
  });
  LS_TRY(const config::Schemas schemas, registry.schemas());
  for (const auto& [name, reason] : schemas.refused) {
    out.push_back({name, "", "", {}, "", "", reason});
  }
  return out;
}

}  // namespace loadstone::plugin
