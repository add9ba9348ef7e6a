// What a host does with a method, in memory, in every order that the interface allows.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "conformance/layer_case.hpp"
#include "plugin/registry.hpp"

namespace loadstone::conformance {

/// Asks until no value is missing. `sizes` also shapes ls_target.
Result<plugin::LayerAnswer> ask(const plugin::MethodConfig& config, CaseView& view,
                                const StructSizes* sizes = nullptr);

enum class Cut : uint8_t { whole, granules, random };

/// How pieces come.
struct Feeding {
  Cut cut = Cut::whole;
  unsigned threads = 1;
  uint64_t seed = 1;
  int fill = 0xCC;                     // of stored tensors and scratch beforehand
  bool by_group = false;               // a session for each group
  bool awkward = false;                // pieces no better aligned than their dtype, rows apart
  std::optional<uint64_t> stop_after;  // feeds before abort
  const StructSizes* sizes = nullptr;
};

/// Stored tensors, parallel to the answer's.
struct Produced {
  std::vector<Guarded> stored;
  uint64_t feeds = 0;
  bool aborted = false;
};

/// Runs sessions and places identities. Errors: the method's own; guard bytes overwritten; a source
/// that was written to.
Result<Produced> produce(const plugin::MethodConfig& config, const CaseView& view,
                         const plugin::LayerAnswer& answer, const Feeding& feeding = {});

/// Rows [begin, begin+count) of a group as float32; with `in_scale` the raw basis, and the scale
/// (empty if the layer has none).
Result<std::vector<float>> dequantize(const plugin::MethodConfig& config, const CaseView& view,
                                      const plugin::LayerAnswer& answer, const Produced& produced,
                                      uint32_t group, uint64_t begin, uint64_t count,
                                      std::vector<float>* in_scale = nullptr,
                                      const StructSizes* sizes = nullptr);

/// All groups' rows.
Result<std::vector<float>> dequantize_all(const plugin::MethodConfig& config, const CaseView& view,
                                          const plugin::LayerAnswer& answer,
                                          const Produced& produced);

struct Call {
  uint64_t m = 1;
  uint32_t x_dtype = LS_DTYPE_F32, y_dtype = LS_DTYPE_F32;
  uint64_t x_pad = 0, y_pad = 0;  // elements between rows
  bool bias = false;
  std::vector<float> x;            // m × in, values of x_dtype; gather: row numbers
  std::vector<float> bias_values;  // out
  std::vector<uint64_t> group_end;
};

/// A layer ready to apply.
class Bound {
 public:
  static Result<Bound> bind(const plugin::MethodConfig& config, const CaseView& view,
                            const plugin::LayerAnswer& answer, const Produced& produced,
                            const StructSizes* sizes = nullptr);
  ~Bound();
  Bound(Bound&& other) noexcept;
  Bound& operator=(Bound&&) = delete;

  /// y as float32, m × out. May run on several threads at once. Errors as produce's.
  Result<std::vector<float>> apply(const Call& call, const StructSizes* sizes = nullptr) const;

 private:
  Bound(const plugin::Method& method, const CaseView& view);
  const plugin::Method* method_;
  const CaseView* view_;
  std::unique_ptr<Arena> arena_;
  ls_bound* handle_ = nullptr;
};

const ls_buffer* const* buffers_of(Arena& arena, const Produced& produced);

}  // namespace loadstone::conformance
