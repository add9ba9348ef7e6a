#include "config/load_dtype.hpp"

#include <vector>

#include "base/text.hpp"

namespace loadstone::config {

Result<DType> parse_load_dtype(const std::string& name) {
  struct Spelling {
    const char* name;
    DType dtype;
  };
  constexpr Spelling kSpellings[] = {
      {"auto", DType::invalid}, {"bf16", DType::BF16}, {"bfloat16", DType::BF16},
      {"f16", DType::F16},      {"fp16", DType::F16},  {"float16", DType::F16},
      {"half", DType::F16},     {"f32", DType::F32},   {"fp32", DType::F32},
      {"float32", DType::F32},
  };
  std::vector<std::string> names;
  for (const Spelling& spelling : kSpellings) {
    if (name == spelling.name) return spelling.dtype;
    names.emplace_back(spelling.name);
  }
  std::string hint = nearest(name, names);
  return Error{Code::invalid_config, "unknown dtype", "load.dtype",
               "found " + quoted(name) + ", expected auto, bf16, f16 or f32",
               hint.empty() ? "" : quoted(hint)};
}

}  // namespace loadstone::config
