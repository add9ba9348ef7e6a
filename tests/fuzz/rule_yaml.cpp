// Rule YAML: any bytes give a configuration or one error, never a crash; what is accepted prints.
#include <cstdint>
#include <string_view>

#include "config/quant_config.hpp"

using namespace loadstone;  // NOLINT a fuzzer's main file

namespace {

config::Schemas schemas() {
  config::Schemas out;
  config::MethodSchema fp8{"fp8", {"f8"}, "fp8", {}};
  config::Field bits;
  bits.name = "bits";
  bits.type = config::FieldType::integer;
  bits.low = 2;
  bits.high = 8;
  config::Field ignored;
  ignored.name = "ignored_layers";
  ignored.type = config::FieldType::texts;
  config::Field extra;
  extra.name = "extra";
  extra.type = config::FieldType::tree;
  fp8.fields = {bits, ignored, extra};
  out.methods = {fp8};
  out.refused = {{"torchao", "pickled"}};
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  static const config::Schemas kSchemas = schemas();
  auto root = config::parse_yaml({reinterpret_cast<const char*>(bytes), count}, "fuzz.yaml");
  if (!root.ok()) return root.error().text().empty() ? __builtin_trap(), 0 : 0;
  auto whole = config::build_pipeline_config(*root, kSchemas);
  if (whole.ok()) whole->quantization.to_node().to_json();
  auto value = config::build_quant_config(*root, Node(), kSchemas);
  if (value.ok()) value->to_node().to_json();
  return 0;
}
