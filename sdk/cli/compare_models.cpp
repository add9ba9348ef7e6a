#include "compare_models.hpp"

#include <loadstone/compare.hpp>

#include "interrupt.hpp"
#include "loading.hpp"
#include "progress_line.hpp"
#include "runtime/compare/variant.hpp"
#include "session.hpp"

namespace loadstone::cli {

namespace {

Result<Engine> open_variant(const CompareOptions& options, const compare::VariantConfig& variant) {
  CommonOptions common = options.common;
  common.model = variant.model;
  const compare::VariantQuantization asked{variant.quantization, variant.quantization_config};
  return open_engine(common, asked.spec());
}

/// Both sides are planned before either draws: a mistake in the candidate needn't wait for the
/// reference.
Status check_variant(const CompareOptions& options, const compare::VariantConfig& variant) {
  auto engine = open_variant(options, variant);
  if (!engine) return std::move(engine).error().at(variant.label);
  auto plan = engine->loader.plan(engine->config);
  if (!plan) return std::move(plan).error().at(variant.label);
  return {};
}

}  // namespace

Result<compare::Outcome> compare_models(const CompareOptions& options,
                                        const compare::Request& request) {
  LS_CHECK(check_variant(options, request.reference));
  LS_CHECK(check_variant(options, request.candidate));
  ProgressLine progress;
  const auto open = [&](const compare::VariantConfig& variant)
      -> Result<std::shared_ptr<const load::LoadedModel>> {
    LS_TRY(Engine engine, open_variant(options, variant));
    return load_model(engine, progress);
  };
  compare::ModelControl control;
  control.open = {.threads = options.common.threads.value_or(0)};
  control.cancel = &interrupt_token();
  control.progress = progress.sink();
  return compare::compare_models(request, open, control);
}

}  // namespace loadstone::cli
