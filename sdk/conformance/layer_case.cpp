#include "conformance/layer_case.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <loadstone/plugin/floats.hpp>

namespace loadstone::conformance {

uint64_t Random::next() {  // splitmix64 (Steele, Lea, Flood 2014)
  uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

float Random::normal() {
  double sum = 0;
  for (int i = 0; i < 12; ++i) sum += static_cast<double>(next() >> 11) * 0x1p-53;
  return static_cast<float>(sum - 6);
}

uint64_t CaseTensor::rows() const {
  uint64_t rows = 1;
  for (size_t axis = 0; axis + 1 < shape.size(); ++axis) rows *= shape[axis];
  return std::max<uint64_t>(rows, 1);
}

float LayerCase::max_abs() const {
  float largest = 0;
  for (const float value : truth) {
    if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
  }
  return largest;
}

namespace {

float value_of(Content content, uint64_t row, uint64_t column, Random& random) {
  switch (content) {
    case Content::normal:
    case Content::nan:
    case Content::infinity:
      return 0.05f * random.normal();
    case Content::outliers:
      return (row % 5 == 1 || column % 31 == 3 ? 8.0f : 0.02f) * random.normal();
    case Content::tiny:
      return 1e-39f * random.normal();
    case Content::zeros:
      return 0.0f;
    case Content::constant:
      return row % 2 == 0 ? 0.75f : -0.75f;
  }
  return 0.0f;
}

CaseTensor float_tensor(std::string name, uint32_t part, uint32_t group, uint32_t dtype,
                        std::vector<uint64_t> shape, const std::vector<float>& values) {
  CaseTensor out{std::move(name), part, group, dtype, std::move(shape), {}};
  out.bytes.resize(values.size() * sdk::float_nbytes(dtype));
  sdk::narrow(dtype, values.data(), values.size(), out.bytes.data());
  return out;
}

class Maker {
 public:
  Maker(const Recipe& recipe, Random& random) : recipe_(recipe), random_(random) {
    out_.kind = recipe.kind;
    out_.in = recipe.in;
    out_.out = recipe.out;
    out_.has_bias = recipe.bias;
    out_.load_dtype = recipe.dtype;
    out_.groups = recipe.layout == Layout::grouped ? 3 : 1;
    out_.truth.resize(out_.groups * recipe.out * recipe.in);
  }

  LayerCase make() {
    const uint64_t out = recipe_.out;
    switch (recipe_.layout) {
      case Layout::single:
        add("block.proj", 0, 0, out, 0, out);
        break;
      case Layout::sliced:
        add("block.proj_all", 0, 0, out, 3, out + 5);
        break;
      case Layout::fused: {
        const uint64_t first = std::max<uint64_t>(out / 2, 1);
        const uint64_t second = std::max<uint64_t>((out - first) / 3, 1);
        add("block.to_q", 0, 0, first, 0, first);
        add("block.to_k", 0, first, second, 0, second);
        add("block.to_v", 0, first + second, out - first - second, 0, out - first - second);
        break;
      }
      case Layout::grouped:
        for (uint32_t g = 0; g < out_.groups; ++g) {
          const std::string expert = "block.experts." + std::to_string(g);
          const uint64_t half = std::max<uint64_t>(out / 2, 1);
          add(expert + ".gate", g, 0, half, 0, half);
          add(expert + ".up", g, half, out - half, 0, out - half);
        }
        break;
    }
    poison();
    title();
    return std::move(out_);
  }

 private:
  void add(std::string name, uint32_t group, uint64_t out_begin, uint64_t out_count,
           uint64_t file_begin, uint64_t file_total) {
    const auto part = static_cast<uint32_t>(out_.parts.size());
    std::vector<float> values(file_total * recipe_.in);
    for (uint64_t r = 0; r < file_total; ++r) {
      for (uint64_t c = 0; c < recipe_.in; ++c) {
        values[r * recipe_.in + c] = value_of(recipe_.content, r, c, random_);
      }
    }
    CaseTensor weight =
        float_tensor("weight", part, group, recipe_.dtype, {file_total, recipe_.in}, values);
    // The truth is what the file holds: rounded.
    sdk::widen(recipe_.dtype, weight.bytes.data(), values.size(), values.data());
    std::copy_n(values.begin() + static_cast<ptrdiff_t>(file_begin * recipe_.in),
                out_count * recipe_.in,
                out_.truth.begin() +
                    static_cast<ptrdiff_t>((group * recipe_.out + out_begin) * recipe_.in));
    out_.tensors.push_back(std::move(weight));
    if (recipe_.bias) {
      std::vector<float> bias(file_total);
      for (float& value : bias) value = random_.normal();
      out_.tensors.push_back(float_tensor("bias", part, group, recipe_.dtype, {file_total}, bias));
    }
    out_.parts.push_back({std::move(name), group, out_begin, out_count, file_begin, file_total});
  }

  /// One value of the last part's weight that no format holds.
  void poison() {
    if (recipe_.content != Content::nan && recipe_.content != Content::infinity) return;
    const float bad = recipe_.content == Content::nan ? std::numeric_limits<float>::quiet_NaN()
                                                      : -std::numeric_limits<float>::infinity();
    const CasePart& part = out_.parts.back();
    for (CaseTensor& tensor : out_.tensors) {
      if (tensor.part + 1 != out_.parts.size() || tensor.name != "weight") continue;
      const uint64_t row = part.out_count / 2, column = recipe_.in - 1;
      const uint64_t at = (part.file_begin + row) * recipe_.in + column;
      sdk::narrow(recipe_.dtype, &bad, 1,
                  tensor.bytes.data() + at * sdk::float_nbytes(recipe_.dtype));
      out_.truth[(part.group * recipe_.out + part.out_begin + row) * recipe_.in + column] = bad;
    }
  }

  void title() {
    static const char* const kKinds[] = {"", "linear", "grouped", "gather", "attention", "other"};
    static const char* const kLayouts[] = {"single", "fused", "sliced", "grouped"};
    static const char* const kContents[] = {"normal",   "outliers", "tiny",    "zeros",
                                            "constant", "NaN",      "infinity"};
    const char* dtype = recipe_.dtype == LS_DTYPE_F32    ? "F32"
                        : recipe_.dtype == LS_DTYPE_BF16 ? "BF16"
                                                         : "F16";
    out_.title = std::string(kKinds[recipe_.kind]) + " " +
                 kLayouts[static_cast<size_t>(recipe_.layout)] + " " + std::to_string(recipe_.out) +
                 "x" + std::to_string(recipe_.in) + " " + dtype + " " +
                 kContents[static_cast<size_t>(recipe_.content)] + (recipe_.bias ? " bias" : "");
  }

  const Recipe& recipe_;
  Random& random_;
  LayerCase out_;
};

}  // namespace

LayerCase make_case(const Recipe& recipe, Random& random) { return Maker(recipe, random).make(); }

std::vector<Recipe> ordinary_recipes() {
  constexpr uint32_t kLinear = LS_KIND_LINEAR;
  return {
      {kLinear, Layout::single, 64, 512},
      {kLinear, Layout::fused, 96, 256, LS_DTYPE_BF16, Content::normal, true},
      {kLinear, Layout::single, 48, 1024, LS_DTYPE_F32, Content::outliers},
      {kLinear, Layout::sliced, 40, 128, LS_DTYPE_F16},
      {LS_KIND_GROUPED, Layout::grouped, 32, 128},
      {LS_KIND_GATHER, Layout::single, 70, 64},
      {kLinear, Layout::single, 33, 130},
      {kLinear, Layout::single, 1, 1},
      {kLinear, Layout::single, 3, 5, LS_DTYPE_F32, Content::normal, true},
      {kLinear, Layout::fused, 17, 33, LS_DTYPE_F16},
      {kLinear, Layout::single, 256, 384, LS_DTYPE_BF16, Content::constant},
      {kLinear, Layout::single, 130, 257},
      {kLinear, Layout::single, 5, 4099},
      {kLinear, Layout::fused, 300, 512, LS_DTYPE_BF16, Content::outliers, true},
      {kLinear, Layout::single, 16, 64, LS_DTYPE_F32, Content::tiny},
      {kLinear, Layout::single, 16, 64, LS_DTYPE_BF16, Content::zeros},
      {LS_KIND_GROUPED, Layout::grouped, 20, 96, LS_DTYPE_BF16, Content::outliers},
  };
}

CaseView::CaseView(const LayerCase& layer, const StructSizes* sizes)
    : source_(layer), sizes_(sizes), has_value_(layer.tensors.size()) {
  build();
}

void CaseView::set_value(uint32_t tensor) {
  has_value_[tensor] = true;
  build();
}

void CaseView::build() {
  arena_ = std::make_unique<Arena>(sizes_);
  layer_ = build_in(*arena_);
  plain_arena_ = std::make_unique<Arena>();
  plain_ = build_in(*plain_arena_);
}

const ls_layer* CaseView::build_in(Arena& arena) const {
  std::vector<const ls_part*> parts;
  for (const CasePart& part : source_.parts) {
    ls_part out{};
    out.struct_size = sizeof out;
    out.group = part.group;
    out.name = part.name.c_str();
    out.out_begin = part.out_begin;
    out.out_count = part.out_count;
    out.file_begin = part.file_begin;
    out.file_total = part.file_total;
    parts.push_back(arena.put(out));
  }
  std::vector<const ls_tensor*> tensors;
  for (size_t i = 0; i < source_.tensors.size(); ++i) {
    const CaseTensor& tensor = source_.tensors[i];
    ls_tensor out{};
    out.struct_size = sizeof out;
    out.dtype = tensor.dtype;
    out.rank = static_cast<uint32_t>(tensor.shape.size());
    out.part = tensor.part;
    out.group = tensor.group;
    std::fill(out.shape, out.shape + LS_MAX_RANK, uint64_t{1});
    std::copy(tensor.shape.begin(), tensor.shape.end(), out.shape);
    out.nbytes = tensor.bytes.size();
    out.row_nbytes = tensor.row_nbytes();
    out.name = tensor.name.c_str();
    out.value = has_value_[i] ? tensor.bytes.data() : nullptr;
    tensors.push_back(arena.put(out));
  }
  ls_layer out{};
  out.struct_size = sizeof out;
  out.kind = source_.kind;
  out.load_dtype = source_.load_dtype;
  out.has_bias = source_.has_bias ? 1 : 0;
  out.want = source_.want;
  out.groups = source_.groups;
  out.component = "transformer";
  out.path = "blocks.7.attn.proj";
  out.role = "attention.out";
  out.out = source_.out;
  out.in = source_.in;
  out.parts = arena.array(parts);
  out.part_count = parts.size();
  out.tensors = arena.array(tensors);
  out.tensor_count = tensors.size();
  return arena.put(out);
}

}  // namespace loadstone::conformance
