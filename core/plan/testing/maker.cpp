// maker: a method that only plans, for the cases of tests/cases. It takes declarations, targets a
// GPU too and decodes by itself. Its field `mode` picks the plan:
//
//   double     weight F32 [out, in], streamed
//   plain      weight as it is, row by row
//   left       the left half of the columns: strided reads
//   apart      the rows with as much room behind each: strided writes, the room from the same
//   tensor biased     as plain, with the biases as its own stored tensor wide       as plain, of a
//   layer that is said to be twice as wide split      parts apart, whether there are several or not
//   keep, unsupported    verdicts
//   tell       keeps, with all that it was shown as the reason
//   stubborn   as plain, also where it is asked to decode
//   broken     refused when configured
//
// A declaration (quant_method "making", format "one" or "two") gives `mode`, `mode_of` (exact
// module → mode), `keep` (runs of segments). `ignored` fails at what is called "faulty".
#include <loadstone/plugin.hpp>
#include <string>

namespace {

namespace sdk = loadstone::sdk;

constexpr const char* kModes[] = {"double", "plain", "left",        "apart", "biased",   "wide",
                                  "split",  "keep",  "unsupported", "tell",  "stubborn", "broken"};

std::string told(const sdk::Layer& layer) {
  const auto number = [](uint64_t value) { return " " + std::to_string(value); };
  std::string out(layer.wants_decode() ? "decode " : "quantize ");
  out += std::string(layer.component()) + " " + std::string(layer.path()) + " role " +
         std::string(layer.role()) + " kind" + number(layer.kind()) + " dtype" +
         number(layer.load_dtype()) + number(layer.out()) + " x" + number(layer.in()) + " groups" +
         number(layer.groups()) + (layer.has_bias() ? " bias" : "");
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    const sdk::Part part = layer.part(i);
    out += "; part " + std::string(part.path()) + " group" + number(part.group) +
           number(part.out_begin) + number(part.out_count) + number(part.file_begin) +
           number(part.file_total);
  }
  for (uint64_t i = 0; i < layer.tensor_count(); ++i) {
    const sdk::Tensor tensor = layer.tensor(i);
    out += "; tensor " + std::string(tensor.suffix()) + " part" + number(tensor.part) + " group" +
           number(tensor.group) + " dtype" + number(tensor.dtype) + " shape";
    for (uint64_t axis = 0; axis < LS_MAX_RANK; ++axis) out += number(tensor.shape[axis]);
    out += " rank" + number(tensor.rank) + " bytes" + number(tensor.nbytes) + " row" +
           number(tensor.row_nbytes);
  }
  return out;
}

struct Maker {
  static constexpr const char* kName = "maker";
  static constexpr const char* kSummary = "plans only";
  static constexpr bool kSaves = false;
  static constexpr bool kCuda = true;
  static constexpr bool kDecodes = true;
  static constexpr ls_field kFields[] = {
      sdk::choice_field("mode", "what it plans", "\"double\"", kModes),
      sdk::field(LS_FIELD_TEXT, "gguf_model", "a file"),
      sdk::field(LS_FIELD_TEXTS, "unquantized_modules", "what it leaves alone", "[]")};
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "making", "one"),
                                         sdk::claim("quantization_config", "making", "two"),
                                         sdk::claim("made.json")};

  struct Config {
    std::string mode;
    bool is(std::string_view name) const { return mode == name; }
  };

  static Config configure(const sdk::Values& values) {
    Config out{std::string(values.text("mode"))};
    if (out.is("broken")) sdk::fail(LS_INVALID_CONFIG, "found mode broken, expected another");
    return out;
  }

  static const char* ignored(const Config&, const sdk::Layer& layer) {
    if (layer.path() == "faulty") sdk::fail(LS_INTERNAL, "asked to fail");
    return nullptr;
  }

  static void read_declaration(const sdk::Node& node, uint64_t, sdk::Declaration& out) {
    if (const auto mode = node.get("mode")) out.text("mode", mode.text());
    const auto per = node.get("mode_of");
    for (uint64_t i = 0; per && i < per.size(); ++i) {
      const auto [module, mode] = per.entry(i);
      out.text("mode", mode.text(), std::string(module).c_str());
    }
    const auto keep = node.get("keep");
    for (uint64_t i = 0; keep && i < keep.size(); ++i) {
      out.keep(std::string(keep.at(i).text()).c_str(), LS_STYLE_SEGMENTS);
    }
  }

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target&,
                   sdk::Plan& plan) {
    if (config.is("unsupported")) return plan.unsupported("found a layer, expected none");
    if (config.is("keep")) return plan.keep("left alone");
    if (config.is("tell")) return plan.keep(told(layer));
    if (config.is("split")) return plan.split("parts apart");
    const bool decodes = layer.wants_decode() && !config.is("stubborn");
    if (decodes || config.is("double")) {
      streamed(layer, plan);
    } else if (config.is("left") || config.is("apart")) {
      strided(config.is("left"), layer, plan);
    } else {
      plain(layer, plan);
    }
    if (config.is("biased")) biases(layer, plan);
    ls_work& work = decodes ? plan.decode("plain floats") : plan.quantize("maker_" + config.mode);
    if (config.is("biased")) work.bias = LS_BIAS_BY_METHOD;
    if (config.is("wide")) work.in = 2 * layer.get(0, "weight").columns();
  }

  static void feed(const Config&, const sdk::Layer&, const sdk::Begin&, const sdk::Piece&) {
    sdk::fail(LS_INTERNAL, "plans only");
  }

 private:
  static void streamed(const sdk::Layer& layer, sdk::Plan& plan) {
    plan.stored("weight", LS_DTYPE_F32, {layer.out(), layer.in()});
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      plan.streamed_part(layer, layer.get(p, "weight"));
    }
  }

  static void plain(const sdk::Layer& layer, sdk::Plan& plan) {
    const sdk::Tensor first = layer.get(0, "weight");
    const uint32_t weight = plan.stored("weight", first.dtype, {layer.out(), first.columns()});
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      plan.identity_part(layer, weight, layer.get(p, "weight"));
    }
  }

  static void biases(const sdk::Layer& layer, sdk::Plan& plan) {
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      const sdk::Tensor bias = layer.get(p, "bias");
      plan.identity(plan.stored("shift" + std::to_string(p), bias.dtype, {bias.columns()}), bias);
    }
  }

  static void strided(bool left, const sdk::Layer& layer, sdk::Plan& plan) {
    const sdk::Tensor from = layer.get(0, "weight");
    const uint64_t columns = left ? layer.in() / 2 : layer.in() * 2;
    const uint32_t weight = plan.stored("weight", from.dtype, {layer.out(), columns});
    ls_identity one = sdk::make<ls_identity>();
    one.stored = weight;
    one.tensor = from.index;
    one.rows = from.rows();
    one.src_stride = from.row_nbytes;
    one.row_nbytes = left ? from.row_nbytes / 2 : from.row_nbytes;
    one.dst_stride = left ? one.row_nbytes : 2 * one.row_nbytes;
    plan.identity(one);
    if (left) return;
    one.dst_offset = one.row_nbytes;
    plan.identity(one);
  }
};

}  // namespace

LOADSTONE_PLUGIN("maker", "1.0.0", "MIT", Maker)
