// Layers for the kit: every kind, fused and sliced, odd shapes, hostile contents.
#pragma once

#include <loadstone/plugin.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "conformance/memory.hpp"

namespace loadstone::conformance {

/// A small generator of its own: the same numbers on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint64_t next();
  uint64_t below(uint64_t bound) { return next() % bound; }
  float normal();  // sum of uniforms: mean 0, variance 1, |x| ≤ 6

 private:
  uint64_t state_;
};

struct CaseTensor {
  std::string name;
  uint32_t part = 0, group = 0, dtype = 0;
  std::vector<uint64_t> shape;
  std::vector<std::byte> bytes;

  uint64_t rows() const;
  uint64_t row_nbytes() const { return bytes.size() / rows(); }
};

struct CasePart {
  std::string name;
  uint32_t group = 0;
  uint64_t out_begin = 0, out_count = 0, file_begin = 0, file_total = 0;
};

enum class Content : uint8_t { normal, outliers, tiny, zeros, constant, nan, infinity };

struct LayerCase {
  std::string title;
  uint32_t kind = LS_KIND_LINEAR;
  uint32_t load_dtype = LS_DTYPE_BF16;
  uint32_t want = LS_WANT_QUANTIZE;
  bool has_bias = false;
  uint32_t groups = 1;
  uint64_t out = 0, in = 0;
  std::vector<CasePart> parts;
  std::vector<CaseTensor> tensors;
  std::vector<float> truth;  // groups × out × in; empty when unknown

  float max_abs() const;
};

/// How the layer lies in files.
enum class Layout : uint8_t {
  single,   // one module
  fused,    // three modules of unequal rows
  sliced,   // rows from the middle of a larger tensor
  grouped,  // three experts of two modules each
};

struct Recipe {
  uint32_t kind = LS_KIND_LINEAR;
  Layout layout = Layout::single;
  uint64_t out = 0, in = 0;
  uint32_t dtype = LS_DTYPE_BF16;
  Content content = Content::normal;
  bool bias = false;
};

LayerCase make_case(const Recipe& recipe, Random& random);

/// Shapes and layouts with ordinary content, the plain ones first.
std::vector<Recipe> ordinary_recipes();

/// An ls_layer of a case. `sizes` changes struct sizes; null: today's.
class CaseView {
 public:
  explicit CaseView(const LayerCase& layer, const StructSizes* sizes = nullptr);
  const ls_layer& get() const { return *layer_; }
  /// The same with today's struct sizes, for the host's own eyes.
  const ls_layer& plain() const { return *plain_; }
  bool has_value(uint32_t tensor) const { return has_value_[tensor]; }
  const LayerCase& source() const { return source_; }
  void set_value(uint32_t tensor);  // answers needs_value

 private:
  void build();
  const ls_layer* build_in(Arena& arena) const;
  const LayerCase& source_;
  const StructSizes* sizes_;
  std::vector<bool> has_value_;
  std::unique_ptr<Arena> arena_, plain_arena_;
  const ls_layer* layer_ = nullptr;
  const ls_layer* plain_ = nullptr;
};

}  // namespace loadstone::conformance
