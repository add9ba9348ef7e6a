// Draws one picture with fp8 weights.
//
//   embed_draw MODEL PROMPT FILE.png
#include <cstdio>
#include <loadstone/loadstone.hpp>
#include <loadstone/runtime.hpp>

using namespace loadstone;  // an example; a library would name what it uses

namespace {

Status draw(const std::string& model_path, const std::string& prompt, const std::string& file) {
  LS_TRY(Loader loader, Loader::open({{PLUGIN_DIR}, ADAPTER_DIR}));
  LS_TRY(const auto config, loader.make_config(model_path, "fp8"));
  LS_TRY(const auto plan, loader.plan(config));
  LS_TRY(const auto model, loader.load(plan));
  LS_TRY(runtime::Pipeline pipeline, runtime::Pipeline::open(model));

  runtime::GenerateOptions options;
  options.prompt = prompt;
  options.width = options.height = 64;
  options.num_inference_steps = 4;
  options.output = file;
  LS_TRY(const runtime::Generated made, pipeline.generate(options));
  std::printf("%s in %.2f s\n", made.files.at(0).c_str(), made.timings.total);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: embed_draw MODEL PROMPT FILE.png\n");
    return 2;
  }
  const Status done = draw(argv[1], argv[2], argv[3]);
  if (done.ok()) return 0;
  std::fprintf(stderr, "%s\n", done.error().text().c_str());
  return 1;
}
