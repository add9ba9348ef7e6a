#include "msmodelslim/types.hpp"

#include <cctype>

namespace loadstone::msmodelslim {
namespace {

struct Name {
  const char* name;
  Type type;
};
constexpr Name kNames[] = {
    {"W8A8", Type::w8a8},
    {"W8A8_DYNAMIC", Type::w8a8_dynamic},
    {"W8A16", Type::w8a16},
    {"W4A8_DYNAMIC", Type::w4a8_dynamic},
    {"W4A4_DYNAMIC", Type::w4a4_dynamic},
    {"WFP8AFP8_DYNAMIC", Type::fp8_dynamic},
    {"W8A8_MXFP8", Type::mxfp8},
    {"W4A4_MXFP4", Type::mxfp4},
    {"W4A4_MXFP4_DUALSCALE", Type::mxfp4_dualscale},
};

constexpr const char* kSparse =
    "sparse weights are packed by Ascend's own compressor; export W8A8_DYNAMIC instead";
constexpr const char* kCache =
    "a quantized KV cache belongs to Ascend's attention; export without it";

struct Refused {
  const char *name, *reason;
};
constexpr Refused kRefused[] = {
    {"W8A8S", kSparse},
    {"W8A8SC", kSparse},
    {"W16A16S", kSparse},
    {"W16A16SC", kSparse},
    {"W8A8_MIX", "prefill and decoding differ in their activations; export W8A8_DYNAMIC instead"},
    {"W8A8_TIMESTEP",
     "its scales change with the denoising step, by a table of the tool's own; export W8A8_DYNAMIC "
     "instead"},
    {"W4A8_MXFP", "its tensors are undocumented; export W8A8_MXFP8 or W4A4_MXFP4 instead"},
    {"W4A4_MXFP4_SVD",
     "low-rank branches beside the weight are not implemented; export W4A4_MXFP4 instead"},
    {"W4A4_FLATQUANT_DYNAMIC",
     "its rotation of activations is not implemented; export W4A4_DYNAMIC instead"},
    {"W4A16", "its packing is undocumented; export W8A16, or GPTQ for 4 bits"},
    {"NF4", "its codebook blocks are not implemented; export W4A4_MXFP4 or W8A16 instead"},
    {"C8", kCache},
    {"KV8", kCache},
    {"FAQuant", kCache},
    {"FAKQuant", kCache},
};

bool same(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::toupper(static_cast<unsigned char>(a[i])) !=
        std::toupper(static_cast<unsigned char>(b[i]))) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::optional<Type> find_type(std::string_view name) {
  for (const Name& known : kNames) {
    if (same(name, known.name)) return known.type;
  }
  return std::nullopt;
}

const char* name_of(Type type) {
  for (const Name& known : kNames) {
    if (known.type == type) return known.name;
  }
  return "";
}

std::string type_names() {
  std::string out;
  for (const Name& known : kNames) {
    const bool last = &known == std::end(kNames) - 1;
    out += (out.empty() ? "" : last ? " or " : ", ") + std::string(known.name);
  }
  return out;
}

bool is_float(std::string_view name) { return same(name, "FLOAT"); }

const char* why_refused(std::string_view name) {
  for (const Refused& known : kRefused) {
    if (same(name, known.name)) return known.reason;
  }
  return nullptr;
}

}  // namespace loadstone::msmodelslim
