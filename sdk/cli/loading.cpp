#include "loading.hpp"

#include "exit_code.hpp"
#include "interrupt.hpp"

namespace loadstone::cli {

Result<std::shared_ptr<const load::LoadedModel>> load_model(Engine& engine, ProgressLine& progress,
                                                            bool measure_ceiling) {
  LS_TRY(plan::Plan plan, plan_model(engine));
  for (const std::string& note : plan.notes) print_note(note);
  plugin::set_host_cancel(&interrupt_token());
  LS_TRY(load::LoadedModel model,
         load::load(std::make_shared<const plan::Plan>(std::move(plan)),
                    {&interrupt_token(), progress.sink(), measure_ceiling}));
  progress.clear();
  return std::make_shared<const load::LoadedModel>(std::move(model));
}

}  // namespace loadstone::cli
