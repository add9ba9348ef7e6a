#include "plan/contradiction.hpp"

#include <set>

#include "base/text.hpp"
#include "config/choice.hpp"

namespace loadstone::plan {
namespace {

std::set<std::string> kept_names(const plugin::DeclarationReading& reading) {
  std::set<std::string> out;
  for (const plugin::DeclaredScope& scope : reading.scopes) {
    if (scope.keep) out.insert(scope.pattern);
  }
  return out;
}

/// Where a second declaration of the same method says something else than the first, for a note.
std::string difference(const plugin::DeclarationReading& first,
                       const plugin::DeclarationReading& second) {
  for (const plugin::DeclaredField& own : second.fields) {
    for (const plugin::DeclaredField& known : first.fields) {
      if (own.name != known.name || own.pattern != known.pattern) continue;
      if (own.value == known.value) continue;
      return own.name + " " + escaped(own.value.describe());
    }
  }
  return kept_names(first) == kept_names(second) ? "" : "other modules to be kept";
}

}  // namespace

std::string contradiction(const formats::Declaration& declaration, const plugin::Claim* claim,
                          const Declared& first, plugin::Registry& registry) {
  const std::string head = declaration.path + ": " + declaration.origin;
  if (!claim || config::fold_name(claim->method) != config::fold_name(first.method())) {
    return head + " not used, since " + first.where() + " declares " + first.method();
  }
  const auto reading = registry.read_declaration(*claim, declaration.value);
  if (!reading.ok()) return head + " not used: " + reading.error().text();
  const std::string found = difference(first.reading(), *reading);
  if (found.empty()) return "";
  return head + " says " + found + ", otherwise than " + first.where() + ", which counts";
}

}  // namespace loadstone::plan
