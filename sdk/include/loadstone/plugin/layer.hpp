// Read-only views of what the host shows: a layer, its parts and its checkpoint tensors.
#pragma once

#include <optional>
#include <string_view>
#include <unordered_map>

#include "floats.hpp"

namespace loadstone::sdk {

/// ls_part, copied. Rows [out_begin, out_begin+out_count) of the layer are rows
/// [file_begin, …) of the module's file_total.
struct Part : ls_part {
  std::string_view path() const { return name; }
};

/// ls_tensor, copied, with its index in the layer.
struct Tensor : ls_tensor {
  uint32_t index = 0;

  std::string_view suffix() const { return name; }
  /// Rows over all leading axes; rank 0 and 1 are one row.
  uint64_t rows() const {
    uint64_t count = 1;
    for (uint32_t axis = 0; axis + 1 < rank; ++axis) count *= shape[axis];
    return count;
  }
  /// Elements of the last axis.
  uint64_t columns() const { return rank == 0 ? 1 : shape[rank - 1]; }
  bool is_float() const { return sdk::is_float(dtype); }
  /// For error texts: `"weight" (part 0)`.
  std::string label() const {
    return "\"" + std::string(name) + "\" (part " + std::to_string(part) + ")";
  }
};

struct Target : ls_target {
  bool cuda() const { return kind == LS_TARGET_CUDA; }
};

/// A layer of the host. Cheap to make; lookups by name build a hash index on first use. Functions
/// may run at once on one Layer. Lives no longer than the host's layer.
class Layer {
 public:
  explicit Layer(const ls_layer* from) : raw_(copy_in(from)) {}
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  const ls_layer& raw() const { return raw_; }
  uint32_t kind() const { return raw_.kind; }
  uint64_t out() const { return raw_.out; }
  uint64_t in() const { return raw_.in; }
  uint32_t groups() const { return std::max<uint32_t>(raw_.groups, 1); }
  uint32_t load_dtype() const { return raw_.load_dtype; }
  bool has_bias() const { return raw_.has_bias != 0; }
  bool wants_decode() const { return raw_.want == LS_WANT_DECODE; }
  /// A matrix that apply can multiply or look up: linear, grouped or gather.
  bool is_matrix() const { return raw_.kind >= LS_KIND_LINEAR && raw_.kind <= LS_KIND_GATHER; }
  std::string_view path() const { return text(raw_.path); }
  std::string_view component() const { return text(raw_.component); }
  std::string_view role() const { return text(raw_.role); }

  uint64_t part_count() const { return raw_.part_count; }
  Part part(uint64_t index) const {
    require(index < raw_.part_count, "part", index, raw_.part_count);
    Part out;
    static_cast<ls_part&>(out) = copy_in(raw_.parts[index]);
    if (out.name == nullptr) out.name = "";
    return out;
  }

  uint64_t tensor_count() const { return raw_.tensor_count; }
  Tensor tensor(uint64_t index) const {
    require(index < raw_.tensor_count, "tensor", index, raw_.tensor_count);
    Tensor out;
    static_cast<ls_tensor&>(out) = copy_in(raw_.tensors[index]);
    out.index = static_cast<uint32_t>(index);
    if (out.name == nullptr) out.name = "";
    return out;
  }

  /// The tensor of that name below the part's module, or nothing.
  std::optional<Tensor> find(uint64_t part, std::string_view suffix) const {
    std::call_once(indexed_, [this] { build_index(); });
    const auto at = index_.find(Key{part, suffix});
    if (at == index_.end()) return std::nullopt;
    return tensor(at->second);
  }

  /// The same, an LS_INVALID_CHECKPOINT failure when absent.
  Tensor get(uint64_t part, std::string_view suffix) const {
    if (auto found = find(part, suffix)) return *found;
    fail(LS_INVALID_CHECKPOINT, "tensor missing: " + std::string(this->part(part).path()) +
                                    ": expected \"" + std::string(suffix) + "\"");
  }

  /// The layer's row that holds row `row` of a tensor whose rows are the module's output rows.
  uint64_t out_row(const Tensor& tensor, uint64_t row) const {
    const Part owner = part(tensor.part);
    return owner.out_begin + (row - owner.file_begin);
  }

 private:
  struct Key {
    uint64_t part;
    std::string_view suffix;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& key) const {
      return std::hash<std::string_view>{}(key.suffix) ^ (key.part * 0x9e3779b97f4a7c15ull);
    }
  };

  static std::string_view text(const char* value) { return value == nullptr ? "" : value; }
  static void require(bool ok, const char* what, uint64_t index, uint64_t count) {
    if (ok) return;
    fail(LS_INTERNAL, std::string(what) + " out of range: found " + std::to_string(index) +
                          ", expected less than " + std::to_string(count));
  }
  void build_index() const {
    index_.reserve(raw_.tensor_count);
    for (uint64_t i = 0; i < raw_.tensor_count; ++i) {
      const ls_tensor tensor = copy_in(raw_.tensors[i]);
      index_.emplace(Key{tensor.part, text(tensor.name)}, i);
    }
  }

  ls_layer raw_;
  mutable std::once_flag indexed_;
  mutable std::unordered_map<Key, uint64_t, Hash> index_;
};

}  // namespace loadstone::sdk
