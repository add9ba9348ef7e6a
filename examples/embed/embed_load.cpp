// Loads a model with fp8 weights and looks at one of its tensors through DLPack.
//
//   embed_load MODEL
#include <cstdio>
#include <loadstone/loadstone.hpp>

using namespace loadstone;  // an example; a library would name what it uses

namespace {

Status show(const std::string& model_path) {
  LS_TRY(Loader loader, Loader::open({{PLUGIN_DIR}, ADAPTER_DIR}));
  LS_TRY(const auto config, loader.make_config(model_path, "fp8"));

  // The plan says for every layer what will happen and why, before a byte is read.
  LS_TRY(const auto plan, loader.plan(config));
  std::printf("%s", plan::summary_text(*plan).c_str());

  LS_TRY(const auto model, loader.load(plan));
  for (uint32_t i = 0; i < plan->layers.size(); ++i) {
    if (plan->layers[i].method != "fp8") continue;
    LS_TRY(auto* view, dlpack::view_of(model, i, 0));
    std::printf("%s: %d dimensions, %lld rows\n", plan->layer_of(plan->layers[i]).path.c_str(),
                view->view.rank, static_cast<long long>(view->view.shape[0]));
    view->destroy(view);  // the model stays until its last view is gone
    break;
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: embed_load MODEL\n");
    return 2;
  }
  const Status done = show(argv[1]);
  if (done.ok()) return 0;
  std::fprintf(stderr, "%s\n", done.error().text().c_str());
  return 1;
}
