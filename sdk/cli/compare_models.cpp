#include "compare_models.hpp"

#include <loadstone/compare.hpp>

#include "compute.hpp"
#include "interrupt.hpp"
#include "loading.hpp"
#include "progress_line.hpp"
#include "runtime/compare/variant.hpp"
#include "session.hpp"

namespace loadstone::cli {

Result<compare::Outcome> compare_models(const CompareOptions& options,
                                        const compare::Request& request) {
  ProgressLine progress;
  const auto open = [&](const compare::VariantConfig& variant)
      -> Result<std::shared_ptr<const load::LoadedModel>> {
    CommonOptions common = options.common;
    common.model = variant.model;
    const compare::VariantQuantization asked{variant.quantization, variant.quantization_config};
    LS_TRY(Engine engine, open_engine(common, asked.spec()));
    return load_model(engine, progress);
  };
  LS_TRY(const auto compute, compute_of(options.common));
  compare::ModelControl control;
  control.open = {compute, options.common.threads.value_or(0)};
  control.cancel = &interrupt_token();
  control.progress = progress.sink();
  return compare::compare_models(request, open, control);
}

}  // namespace loadstone::cli
