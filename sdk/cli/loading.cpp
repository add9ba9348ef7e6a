#include "loading.hpp"

#include "exit_code.hpp"
#include "interrupt.hpp"

namespace loadstone::cli {

Result<std::shared_ptr<const load::LoadedModel>> load_model(Engine& engine, ProgressLine& progress,
                                                            bool measure_ceiling) {
  LS_TRY(const auto plan, engine.loader.plan(engine.config));
  for (const std::string& note : plan->notes) print_note(note);
  plugin::set_host_cancel(&interrupt_token());
  LS_TRY(auto model,
         engine.loader.load(plan, {&interrupt_token(), progress.sink(), measure_ceiling}));
  progress.clear();
  return model;
}

}  // namespace loadstone::cli
