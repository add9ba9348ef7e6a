#include "plan/routing_configure.hpp"

#include "config/problems.hpp"

namespace loadstone::plan {

Status configure_all(const config::QuantConfig& quantization, plugin::Registry& registry) {
  config::Problems problems;
  auto configure = [&](const config::MethodChoice& choice) {
    auto made = [&]() -> Status {
      LS_TRY(plugin::Method method, registry.method(choice.method));
      LS_TRY(auto config, plugin::MethodConfig::make(method, choice));
      return {};
    }();
    if (made.ok()) return;
    const std::string where = choice.mark.text();
    Error error = std::move(made).error();
    const bool placed = error.where.starts_with(where);
    problems.add(placed ? std::move(error) : std::move(error).at(where));
  };
  if (quantization.flat) configure(*quantization.flat);
  for (const auto& [name, choice] : quantization.components) {
    if (choice) configure(*choice);
  }
  for (const config::Rule& rule : quantization.rules) {
    if (rule.use) configure(*rule.use);
  }
  if (!problems.empty()) return problems.take();
  return {};
}

}  // namespace loadstone::plan
