// GGUF: weights in ggml's blocks, decoded when they are used. Layouts and formulas: README.md.
#include <algorithm>
#include <loadstone/plugin.hpp>

#include "common/cpu.hpp"
#include "common/ggml/check.hpp"
#include "common/ggml/dequantize.hpp"
#include "common/ggml/multiply.hpp"
#include "common/ggml/quantize.hpp"
#include "common/weight_only/weight_only.hpp"
#include "gguf/segments.hpp"
#if defined(LOADSTONE_CUDA)
#include "common/cuda/either.hpp"
#include "common/cuda/target.hpp"
#include "gguf/device.hpp"
#endif

namespace {

namespace sdk = loadstone::sdk;
namespace ggml = loadstone::ggml;
namespace common = loadstone::common;
using loadstone::gguf::dtype_of;
using loadstone::gguf::Matrix;
using loadstone::gguf::matrix_of;
using loadstone::gguf::row_nbytes;
using loadstone::gguf::Segment;

constexpr const char* kWritable[] = {"Q8_0", "Q4_0",  "Q4_1",  "Q5_0",
                                     "Q5_1", "TQ1_0", "TQ2_0", "MXFP4"};
constexpr uint64_t kStreamedNbytes = 8u << 20;  // of output: more than the caches keep
constexpr uint64_t kTaskValues = 1u << 18;      // of a large dequantize, one task

/// Largest |Wq - W| as a share of the layer's largest |W|: half a step (a whole one opposite to the
/// block's largest value), and float16's rounding of scale and minimum.
double quantize_error(ggml::Type type) {
  constexpr double kHalf = 0x1p-11;
  switch (type) {
    case ggml::kQ8_0:
      return 0.5 / 127 + 1.01 * kHalf;
    case ggml::kQ4_0:
      return 1.0 / 8 + 1.2 * kHalf;
    case ggml::kQ5_0:
      return 1.0 / 16 + 1.2 * kHalf;
    case ggml::kQ4_1:
      return 1.0 / 15 + 4 * kHalf;
    case ggml::kQ5_1:
      return 1.0 / 31 + 4 * kHalf;
    case ggml::kMXFP4:
      return 0.25;  // 8·2^e is cut to 6·2^e
    default:
      return 0.5 + kHalf;  // -1, 0 or 1 times the largest
  }
}

struct Gguf {
  static constexpr const char* kName = "gguf";
  static constexpr bool kDecodes = true;
#if defined(LOADSTONE_CUDA)
  static constexpr bool kCuda = true;
#endif
  static constexpr const char* kSummary = "weights of a GGUF file in their own blocks";
  static constexpr ls_field kFields[] = {
      sdk::field(LS_FIELD_TEXT, "gguf_model", "file, repo/file.gguf or repo:TYPE to read"),
      sdk::field(LS_FIELD_TEXTS, "unquantized_modules", "modules that become plain floats", "[]"),
      sdk::choice_field("type", "block type that float weights are quantized to", nullptr,
                        kWritable),
  };
  static constexpr ls_claim kClaims[] = {sdk::claim("gguf")};

  struct Config {
    std::vector<std::string> unquantized_modules;
    const ggml::TypeInfo* type = nullptr;  // of float weights; null: they stay
  };

  static Config configure(const sdk::Values& values) {
    Config out;
    out.unquantized_modules = values.texts("unquantized_modules");
    if (values.has("gguf_model") && values.text("gguf_model").empty()) {
      sdk::fail(LS_INVALID_CONFIG,
                "gguf_model: found \"\", expected a file, repo/file.gguf or repo:TYPE");
    }
    if (values.has("type")) out.type = ggml::find_type(values.text("type"));
    if (out.type != nullptr && values.has("gguf_model")) {
      sdk::fail(LS_INVALID_CONFIG, "type: found " + std::string(values.text("type")) +
                                       " beside gguf_model, expected one of them (a file's types "
                                       "are its own)");
    }
    return out;
  }

  /// A file's types are in its tensors; its metadata say nothing that a layer needs.
  static void read_declaration(const sdk::Node&, uint64_t, sdk::Declaration&) {}

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    return sdk::ignored_by(config.unquantized_modules, layer);
  }

  // ---- planning ----

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target& target,
                   sdk::Plan& plan) {
    if (!layer.is_matrix()) return plan_others(layer, plan);
    const Matrix matrix = matrix_of(layer);
    if (matrix.plain()) return plan_plain(config, layer, matrix, target, plan);
    refuse_others(layer);
    if (layer.wants_decode()) {
      return plan_decode(layer, matrix, matrix.type_names() + " in the file, decoded", plan);
    }
    if (const char* entry = ignored(config, layer)) {
      const std::string reason = "unquantized_modules entry \"" + std::string(entry) + "\"";
      return plan_decode(layer, matrix, reason, plan);
    }
    if (config.type != nullptr && matrix.type_names() != config.type->name) {
      return plan.unsupported("found " + matrix.type_names() +
                              " in the file, expected floats to make " + config.type->name +
                              " of (or that type)");
    }
    if (!fits(layer, matrix, target, plan)) return;
    for (size_t i = 0; i < matrix.segments.size(); ++i) add_identity(layer, matrix, i, plan);
    ls_work& work = plan.quantize(kernel_name(layer, matrix, target));
    work.in = matrix.in;
    plan.reason(matrix.type_names() + " in the file");
  }

  /// Blocks hold their scales: another tensor beside them is of no known use.
  static void refuse_others(const sdk::Layer& layer) {
    for (uint64_t i = 0; i < layer.tensor_count(); ++i) {
      const sdk::Tensor tensor = layer.tensor(i);
      const std::string_view suffix = tensor.suffix();
      if (suffix.empty() || suffix == "weight" || suffix == "bias") continue;
      sdk::fail(LS_INVALID_CHECKPOINT, "tensor beside ggml blocks: " + tensor.label() +
                                           ": found it, expected a weight and a bias");
    }
  }

  /// False, with the verdict, where the target has no kernel.
  static bool fits([[maybe_unused]] const sdk::Layer& layer, [[maybe_unused]] const Matrix& matrix,
                   [[maybe_unused]] const sdk::Target& target, [[maybe_unused]] sdk::Plan& plan) {
#if defined(LOADSTONE_CUDA)
    common::NoForm instead;
    if (target.cuda() && !common::cuda::takes("gguf", target, layer.groups(), instead)) {
      instead.answer(plan);
      return false;
    }
    if (target.cuda() && matrix.in % common::cuda::kGgmlRun != 0) {
      plan.unsupported("gguf: found " + std::to_string(matrix.in) +
                       " elements a row, expected a multiple of " +
                       std::to_string(common::cuda::kGgmlRun) + " on CUDA");
      return false;
    }
#endif
    return true;
  }

  static std::string kernel_name(const sdk::Layer& layer, const Matrix& matrix,
                                 [[maybe_unused]] const sdk::Target& target) {
#if defined(LOADSTONE_CUDA)
    if (target.cuda()) return loadstone::gguf::device_kernel_name(layer, matrix);
#endif
    std::string name = matrix.uniform() ? matrix.segments[0].type->name : "mixed";
    for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    return "gguf_" + name + (layer.kind() == LS_KIND_GATHER ? "_rows" : "_float32");
  }

  /// Segment `index` into its stored tensor: one for all where they have one type, else one each.
  static void add_identity(const sdk::Layer& layer, const Matrix& matrix, size_t index,
                           sdk::Plan& plan) {
    const Segment& segment = matrix.segments[index];
    const bool shared = matrix.uniform();
    if (!shared || index == 0) {
      const uint64_t rows = shared ? layer.groups() * layer.out() : segment.count;
      add_stored(shared ? "weight" : "weight." + std::to_string(index), *segment.type,
                 shared ? layer.groups() : 1, rows, matrix.in, plan);
    }
    ls_identity out = sdk::make<ls_identity>();
    out.stored = shared ? 0 : static_cast<uint32_t>(index);
    out.tensor = segment.weight.index;
    out.checked = 1;
    out.rows = segment.count;
    out.row_nbytes = out.src_stride = out.dst_stride = row_nbytes(*segment.type, matrix.in);
    out.src_offset = segment.file_row * out.row_nbytes;
    out.dst_offset = shared ? segment.begin * out.row_nbytes : 0;
    out.tag = index;
    plan.identity(out);
  }

  static uint32_t add_stored(std::string name, const ggml::TypeInfo& type, uint64_t groups,
                             uint64_t rows, uint64_t in, sdk::Plan& plan) {
    const uint32_t dtype = dtype_of(type);
    if (groups > 1) return plan.stored(std::move(name), dtype, {groups, rows / groups, in});
    return plan.stored(std::move(name), dtype, {rows, in});
  }

  static void plan_plain(const Config& config, const sdk::Layer& layer, const Matrix& matrix,
                         const sdk::Target& target, sdk::Plan& plan) {
    if (config.type == nullptr || layer.wants_decode()) {
      return plan.keep(matrix.type_names() + " in the file, not quantized there");
    }
    if (matrix.in % config.type->elems != 0) {
      return plan.unsupported("found " + std::to_string(matrix.in) +
                              " elements a row, expected a multiple of " +
                              std::to_string(config.type->elems) + " for " + config.type->name);
    }
    if (!fits(layer, matrix, target, plan)) return;
    add_stored("weight", *config.type, layer.groups(), layer.groups() * layer.out(), matrix.in,
               plan);
    for (size_t i = 0; i < matrix.segments.size(); ++i) stream(matrix.segments[i], i, plan);
    Matrix made = matrix;
    for (Segment& segment : made.segments) segment.type = config.type;
    ls_work& work = plan.quantize(kernel_name(layer, made, target));
    work.feed_scratch = matrix.in * sizeof(float);
    work.weight_error = quantize_error(config.type->type);
  }

  static void plan_decode(const sdk::Layer& layer, const Matrix& matrix, std::string reason,
                          sdk::Plan& plan) {
    const uint64_t rows = layer.groups() * layer.out();
    if (layer.groups() > 1) {
      plan.stored("weight", layer.load_dtype(), {layer.groups(), layer.out(), matrix.in});
    } else {
      plan.stored("weight", layer.load_dtype(), {rows, matrix.in});
    }
    for (size_t i = 0; i < matrix.segments.size(); ++i) stream(matrix.segments[i], i, plan);
    ls_work& work = plan.decode(std::move(reason));
    work.feed_scratch = matrix.in * sizeof(float);
    work.in = matrix.in;
  }

  static void stream(const Segment& segment, uint64_t tag, sdk::Plan& plan) {
    ls_source out = sdk::make<ls_source>();
    out.tensor = segment.weight.index;
    out.mode = LS_SOURCE_STREAMED;
    out.tag = tag;
    out.row_begin = segment.file_row;
    out.row_count = segment.count;
    out.granule = 1;
    plan.source(out);
  }

  /// Convolutions, norms and lone tensors: those in blocks become plain floats.
  static void plan_others(const sdk::Layer& layer, sdk::Plan& plan) {
    bool any = false;
    uint64_t widest = 0;
    for (uint64_t i = 0; i < layer.tensor_count(); ++i) {
      const sdk::Tensor tensor = layer.tensor(i);
      if (tensor.dtype < LS_DTYPE_GGML) continue;
      loadstone::gguf::decodable(tensor);
      any = true;
      widest = std::max(widest, tensor.columns());
    }
    if (!any) return plan.keep("plain in the file, not quantized there");
    for (uint64_t i = 0; i < layer.tensor_count(); ++i) {
      const sdk::Tensor tensor = layer.tensor(i);
      if (layer.has_bias() && tensor.suffix() == "bias" && tensor.dtype < LS_DTYPE_GGML) continue;
      std::string name(tensor.suffix().empty() ? "weight" : tensor.suffix());
      if (layer.part_count() > 1) name += "." + std::to_string(tensor.part);
      const uint32_t dtype = tensor.dtype < LS_DTYPE_GGML ? tensor.dtype : layer.load_dtype();
      const uint32_t stored =
          plan.stored(std::move(name), dtype, std::span(tensor.shape, tensor.rank));
      if (tensor.dtype < LS_DTYPE_GGML) {
        plan.identity(stored, tensor);
      } else {
        plan.streamed(tensor, 1, stored);
      }
    }
    plan.decode("quantized in the file, not a matrix that is multiplied").feed_scratch =
        widest * sizeof(float);
  }

  // ---- producing ----

  static void feed(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin,
                   const sdk::Piece& piece) {
    if (piece.is_identity()) return check(layer, piece);
    const sdk::Tensor tensor = piece.tensor();
    const ggml::TypeInfo& from = loadstone::gguf::decodable(tensor);
    const Place place = place_of(layer, begin, piece, tensor);
    const std::span<float> row(piece.scratch<float>(), tensor.columns());
    const ggml::Dequantize decode = ggml::dequantizer(from.type);
    const bool quantizing = config.type != nullptr && !layer.wants_decode() && layer.is_matrix() &&
                            matrix_of(layer).plain();
    for (uint64_t r = 0; r < piece.row_count(); ++r) {
      const auto* bytes = static_cast<const uint8_t*>(piece.row(r));
      decode(bytes, row.size() / from.elems, row.data());
      sdk::require_finite(row, piece, r);
      const uint64_t nbytes = quantizing ? row_nbytes(*config.type, row.size())
                                         : row.size() * sdk::float_nbytes(layer.load_dtype());
      char* to = place.at + (place.row + r) * nbytes;
      if (quantizing) {
        encode(*config.type, row, piece, r, reinterpret_cast<uint8_t*>(to));
      } else {
        sdk::narrow(layer.load_dtype(), row.data(), row.size(), to);
      }
    }
  }

  /// Finite values that are too large for a float16 scale would come back as infinities.
  static void encode(const ggml::TypeInfo& type, std::span<const float> row,
                     const sdk::Piece& piece, uint64_t index, uint8_t* to) {
    const uint64_t blocks = row.size() / type.elems;
    ggml::quantizer(type.type)(row.data(), blocks, to);
    const uint64_t bad = ggml::first_bad_scale(type.type, to, blocks);
    if (bad == blocks) return;
    sdk::fail(LS_INVALID_CHECKPOINT,
              "weight is too large for " + std::string(type.name) + ": " + piece.tensor().label() +
                  ": row " + std::to_string(piece.row_begin() + index) + ", block " +
                  std::to_string(bad) + ": expected a scale that float16 holds");
  }

  /// Where a piece's first row goes: row `row` of the stored tensor at `at`.
  struct Place {
    char* at = nullptr;
    uint64_t row = 0;
  };
  static Place place_of(const sdk::Layer& layer, const sdk::Begin& begin, const sdk::Piece& piece,
                        const sdk::Tensor& tensor) {
    Place out;
    if (!layer.is_matrix()) {
      out.at = static_cast<char*>(begin.stored().raw(piece.tag()).at);
      out.row = piece.row_begin();
      return out;
    }
    const sdk::Part part = layer.part(tensor.part);
    const bool stacked = tensor.rank == 3;
    out.at = static_cast<char*>(begin.stored().raw(0).at);
    out.row =
        stacked ? piece.row_begin()
                : part.group * layer.out() + part.out_begin + (piece.row_begin() - part.file_begin);
    return out;
  }

  /// Blocks that are in their place already: every scale must be finite.
  static void check(const sdk::Layer& layer, const sdk::Piece& piece) {
    const Matrix matrix = matrix_of(layer);
    const Segment& segment = matrix.segments.at(piece.tag());
    const uint64_t blocks = matrix.in / segment.type->elems;
    for (uint64_t r = 0; r < piece.row_count(); ++r) {
      const auto* row = static_cast<const uint8_t*>(piece.row(r));
      const uint64_t bad = ggml::first_bad_scale(segment.type->type, row, blocks);
      if (bad == blocks) continue;
      sdk::fail(LS_INVALID_CHECKPOINT,
                std::string(segment.type->type == ggml::kMXFP4 ? "weight" : "scale") +
                    " is not finite: " + segment.weight.label() + ": row " +
                    std::to_string(segment.file_row + piece.row_begin() + r) + ", block " +
                    std::to_string(bad) + " of " + segment.type->name);
    }
  }

  // ---- reading back ----

  /// A layer as it is stored, with where its rows are.
  struct Stored {
    struct Run {
      const ggml::TypeInfo* type = nullptr;
      uint64_t begin = 0, count = 0;  // rows over all groups
      const uint8_t* at = nullptr;    // of row `begin`
    };
    uint64_t in = 0;
    std::vector<Run> runs;

    Stored(const Config& config, const sdk::Layer& layer, const sdk::Buffers& stored) {
      Matrix matrix = matrix_of(layer);
      in = matrix.in;
      if (matrix.plain()) {
        for (Segment& segment : matrix.segments) segment.type = config.type;
      }
      const bool shared = matrix.uniform();
      for (size_t i = 0; i < matrix.segments.size(); ++i) {
        const Segment& segment = matrix.segments[i];
        const auto* base = static_cast<const uint8_t*>(stored.raw(shared ? 0 : i).at);
        const uint64_t row = shared ? segment.begin : 0;
        runs.push_back({segment.type, segment.begin, segment.count,
                        base + row * row_nbytes(*segment.type, in)});
      }
    }

    /// body(run, first row in it, rows, row of the range) for each run in [begin, begin+count).
    template <typename Body>
    void for_rows(uint64_t begin, uint64_t count, const Body& body) const {
      for (const Run& run : runs) {
        const uint64_t from = std::max(begin, run.begin);
        const uint64_t to = std::min(begin + count, run.begin + run.count);
        if (from < to) body(run, from - run.begin, to - from, from - begin);
      }
    }

    void dequantize(uint64_t begin, uint64_t count, float* out, ggml::Stores stores) const {
      for_rows(begin, count, [&](const Run& run, uint64_t first, uint64_t rows, uint64_t at) {
        ggml::dequantizer(run.type->type, stores)(run.at + first * row_nbytes(*run.type, in),
                                                  rows * (in / run.type->elems), out + at * in);
      });
    }

    void multiply(uint64_t begin, uint64_t count, const float* x, uint64_t m, float* y,
                  uint64_t y_stride) const {
      for_rows(begin, count, [&](const Run& run, uint64_t first, uint64_t rows, uint64_t at) {
        ggml::multiply(run.type->type, run.at + first * row_nbytes(*run.type, in), rows, in, x, m,
                       y + begin + at, y_stride);
      });
    }
  };

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    const Stored stored(config, layer, rows.stored());
    const uint64_t first = rows.group() * layer.out() + rows.begin();
    const bool large = rows.count() * stored.in * sizeof(float) >= kStreamedNbytes;
    const ggml::Stores stores = large ? ggml::Stores::streamed : ggml::Stores::cached;
    const uint64_t task = std::max<uint64_t>(kTaskValues / std::max<uint64_t>(stored.in, 1), 1);
    sdk::parallel_for((rows.count() + task - 1) / task, [&](uint64_t i) {
      const uint64_t begin = i * task, count = std::min(task, rows.count() - begin);
      stored.dequantize(first + begin, count, rows.raw().out + begin * stored.in, stores);
    });
  }

  // ---- running ----

  class HostBound {
   public:
    HostBound(const Config& config, const sdk::Binding& binding)
        : stored_(config, binding.layer, binding.stored),
          out_(binding.layer.out()),
          product_(
              binding.layer, stored_.in, ggml::kMaxMultiplyRows,
              [this](uint32_t group, uint64_t begin, uint64_t count, float* out) {
                stored_.dequantize(group * out_ + begin, count, out, ggml::Stores::cached);
              },
              [this](uint64_t begin, uint64_t count, const float* x, uint64_t m, float* y) {
                stored_.multiply(begin, count, x, m, y, out_);
              }) {}

    void sizes(uint32_t, uint64_t m, ls_sizes& out) const {
      out.workspace_nbytes = product_.workspace_nbytes(m);
    }
    void prepare(const ls_apply&) const {}
    void apply(const ls_apply& call) const { product_.apply(call); }

   private:
    Stored stored_;
    uint64_t out_;
    common::WeightOnlyProduct product_;
  };

#if defined(LOADSTONE_CUDA)
  struct DeviceBound : loadstone::gguf::BlocksBound {
    DeviceBound(const Config& config, const sdk::Binding& binding)
        : BlocksBound(config.type, binding) {}
  };
  using Bound = common::cuda::EitherBound<HostBound, DeviceBound>;
#else
  using Bound = HostBound;
#endif

  // ---- saving ----

  /// Each part's rows as they are, in its own type.
  static void save_layer(const Config& config, const sdk::Layer& layer, uint64_t, ls_sink* sink) {
    const Matrix matrix = matrix_of(layer);
    for (uint32_t part = 0; part < layer.part_count(); ++part) {
      const Segment& segment = matrix.segments[part];
      const ggml::TypeInfo& type = matrix.plain() ? *config.type : *segment.type;
      ls_stored out = sdk::make<ls_stored>();
      out.name = segment.weight.name;
      out.dtype = dtype_of(type);
      out.rank = segment.weight.rank;
      std::copy(segment.weight.shape, segment.weight.shape + LS_MAX_RANK, out.shape);
      if (out.rank == 2) out.shape[0] = segment.count;
      sdk::check_host(sdk::host().save_tensor(sink, &out, part), "save_tensor");
    }
  }

  static void save_read(const Config& config, const sdk::Layer& layer, uint64_t,
                        const sdk::Buffers& buffers, uint64_t index, uint64_t offset,
                        uint64_t nbytes, void* out) {
    const Stored stored(config, layer, buffers);
    if (index >= stored.runs.size()) sdk::fail(LS_INVALID_ARGUMENT, "saved tensor out of range");
    const Stored::Run& run = stored.runs[index];
    const uint64_t all = run.count * row_nbytes(*run.type, stored.in);
    if (offset > all || nbytes > all - offset) {
      sdk::fail(LS_INVALID_ARGUMENT, "saved tensor read out of range");
    }
    std::memcpy(out, run.at + offset, nbytes);
  }
};

}  // namespace

LOADSTONE_PLUGIN("gguf", "0.1.0", "Apache-2.0", Gguf)
