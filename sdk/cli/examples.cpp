#include "examples.hpp"

#include <array>
#include <utility>

namespace loadstone::cli {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kExamples{{
    {"",
     "  loadstone inspect examples/models/emoji\n"
     "  loadstone plan examples/models/emoji --quantization fp8 --layers\n"
     "  loadstone generate examples/models/emoji --quantization fp8 \\\n"
     "      --prompt \"a cup of coffee on the table\" --width 128 --height 128 --output cup.png\n"
     "Exit codes: 0 fine, 1 failed while running, 2 wrong input, 3 a gate not passed,\n"
     "130 cancelled.\n"},
    {"inspect",
     "  loadstone inspect examples/models/emoji\n"
     "  loadstone inspect Qwen/Qwen-Image --format json\n"
     "  loadstone inspect model.safetensors --tensors\n"},
    {"plan",
     "  loadstone plan examples/models/emoji --quantization fp8\n"
     "  loadstone plan --config pipeline.yaml --layers\n"
     "  loadstone plan --config pipeline.yaml --why transformer_blocks.0.attn.to_q\n"
     "  loadstone plan examples/models/emoji --target cuda:sm80 --format json\n"},
    {"load",
     "  loadstone load examples/models/emoji --quantization fp8\n"
     "  loadstone load --config pipeline.yaml --report load.json\n"},
    {"dequantize",
     "  loadstone dequantize quantized_model --output float32_model\n"
     "  loadstone dequantize model.safetensors --output out --fold\n"},
    {"quantize",
     "  loadstone quantize model --config pipeline.yaml --output model_int8\n"
     "  loadstone quantize model --quantization fp8 --output model_fp8 --overwrite\n"},
    {"plugins list",
     "  loadstone plugins list\n"
     "  loadstone plugins list --plugin-dir ./build/my_plugins --format json\n"},
    {"plugins check", "  loadstone plugins check build/release/plugins/fp8.so\n"},
    {"config check",
     "  loadstone config check pipeline.yaml\n"
     "  echo fp8 | loadstone config check - --kwargs '{\"ignored_layers\": [\"img_mlp\"]}'\n"},
    {"generate",
     "  loadstone generate examples/models/emoji --prompt \"a cat\" --width 128 --height 128 \\\n"
     "      --num-inference-steps 20 --seed 7 --output cat.png\n"
     "  loadstone generate --config pipeline.yaml --prompt \"a cat\" --negative-prompt \" \" \\\n"
     "      --true-cfg-scale 4 --output cat.png\n"},
    {"bench",
     "  loadstone bench examples/models/emoji --width 128 --height 128\n"
     "  loadstone bench examples/models/emoji --quantization fp8 --unquantized --width 128 "
     "--height 128\n"
     "  loadstone bench --config pipeline.yaml --compute bf16 --output figures.json\n"},
    {"compare",
     "  loadstone compare --model examples/models/emoji --candidate-quantization fp8 \\\n"
     "      --width 128 --height 128 --num-inference-steps 20 --negative-prompt \" \" \\\n"
     "      --output-json out/result.json --report out/report.html --gate smoke\n"
     "  loadstone compare --reference-dir frames/a --candidate-dir frames/b \\\n"
     "      --output-json out/frames.json\n"},
}};

}  // namespace

std::string examples_of(std::string_view command) {
  for (const auto& [name, text] : kExamples) {
    if (name == command) return "Examples:\n" + std::string(text);
  }
  return "";
}

}  // namespace loadstone::cli
