// loadstone plan: what will happen to every layer, and why.
#include <fmt/format.h>

#include "commands.hpp"
#include "exit_code.hpp"
#include "load/fit.hpp"
#include "plan/explain.hpp"
#include "session.hpp"
#include "terminal.hpp"

namespace loadstone::cli {
namespace {

std::string rules_text(const plan::Plan& plan) {
  std::string out = styled("rules, in the order they are tried", Style::bold) + "\n";
  for (size_t i = 0; i < plan.rules.size(); ++i) {
    out += fmt::format("{:4}  {}\n", i + 1, plan.rules[i]);
  }
  return out;
}

Result<std::string> text_of(const plan::Plan& plan, const PlanOptions& options) {
  if (options.why) return plan::why_text(plan, *options.why);
  if (options.json) return plan.to_node().to_json(2) + "\n";
  std::string text = plan::summary_text(plan);
  if (options.layers) text += "\n" + plan::layers_text(plan);
  if (options.rules) text += "\n" + rules_text(plan);
  return text;
}

}  // namespace

Result<int> run(const PlanOptions& options) {
  LS_TRY(Engine engine, open_engine(options.common));
  if (options.target) {
    engine.config.load.device = *options.target;
    engine.config.load.device_mark = {};
  }
  LS_TRY(const auto plan, engine.loader.plan(engine.config));
  if (const Status fits = load::check_fits(*plan); !fits.ok()) print_note(fits.error().text());
  LS_TRY(const std::string text, text_of(*plan, options));
  LS_CHECK(print(text));
  return kFine;
}

}  // namespace loadstone::cli
