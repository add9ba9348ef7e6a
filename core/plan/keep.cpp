#include "plan/keep.hpp"

#include <algorithm>
#include <numeric>

#include "base/text.hpp"

namespace loadstone::plan {

namespace {

/// A range of leading rows (first axis) of one tensor.
struct Block {
  uint32_t tensor = 0;  // index into the layer's tensors
  uint64_t begin = 0, count = 0;
};

class Keeping {
 public:
  Keeping(const formats::Component& component, const graph::Layer& layer,
          const std::vector<uint32_t>& which, DType dtype, LayerPlan& out)
      : component_(component), layer_(layer), which_(which), dtype_(dtype), out_(out) {}

  Status run() {
    for (const std::string& suffix : suffixes()) {
      std::vector<uint32_t> members = tensors_of(suffix);
      if (auto blocks = joinable(members)) {
        LS_CHECK(add(name_of_suffix(suffix), *blocks));
        continue;
      }
      for (uint32_t member : members) {
        const graph::LayerTensor& tensor = layer_.tensors[member];
        const graph::Part& part = layer_.parts[tensor.part];
        std::string name = name_of_suffix(suffix);
        if (members.size() > 1) {
          name = (part.shard.empty() ? part.name : part.shard) + "." + name;
        }
        LS_CHECK(add(std::move(name), {Block{member, 0, leading(member)}}));
      }
    }
    return {};
  }

 private:
  const formats::TensorEntry& entry(uint32_t tensor) const {
    return component_.tensors[layer_.tensors[tensor].tensor];
  }
  uint64_t leading(uint32_t tensor) const {
    const auto& shape = entry(tensor).shape;
    return shape.empty() ? 1 : shape[0];
  }
  static std::string name_of_suffix(const std::string& suffix) {
    if (suffix.empty()) return "weight";
    return suffix.starts_with("linear.") ? suffix.substr(7) : suffix;  // wrapped beside a "div."
  }

  std::vector<std::string> suffixes() const {
    std::vector<std::string> out;
    for (uint32_t index : which_) {
      const std::string& suffix = layer_.tensors[index].suffix;
      if (std::find(out.begin(), out.end(), suffix) == out.end()) out.push_back(suffix);
    }
    return out;
  }

  /// Members of one suffix by their rows in the layer; a tensor listed twice counts once.
  std::vector<uint32_t> tensors_of(const std::string& suffix) const {
    std::vector<uint32_t> out;
    for (uint32_t index : which_) {
      if (layer_.tensors[index].suffix == suffix) out.push_back(index);
    }
    std::stable_sort(out.begin(), out.end(), [&](uint32_t a, uint32_t b) {
      const graph::Part& x = layer_.parts[layer_.tensors[a].part];
      const graph::Part& y = layer_.parts[layer_.tensors[b].part];
      return std::pair(x.group, x.out_begin) < std::pair(y.group, y.out_begin);
    });
    return out;
  }

  /// The part's rows where the tensor has the whole module's, else all of it.
  Block block_of(uint32_t member) const {
    const graph::Part& part = layer_.parts[layer_.tensors[member].part];
    uint64_t rows = leading(member);
    if (part.file_total == rows && part.file_begin + part.out_count <= rows) {
      return {member, part.file_begin, part.out_count};
    }
    return {member, 0, rows};
  }

  std::optional<std::vector<Block>> joinable(const std::vector<uint32_t>& members) const {
    if (members.size() != layer_.parts.size()) return std::nullopt;
    const formats::TensorEntry& first = entry(members.front());
    if (first.shape.empty() || (members.size() > 1 && is_ggml(first.dtype))) return std::nullopt;
    std::vector<Block> blocks;
    for (uint32_t member : members) {
      const formats::TensorEntry& other = entry(member);
      if (other.dtype != first.dtype || other.shape.size() != first.shape.size() ||
          !std::equal(first.shape.begin() + 1, first.shape.end(), other.shape.begin() + 1)) {
        return std::nullopt;
      }
      blocks.push_back(block_of(member));
    }
    if (!equal_groups(blocks)) return std::nullopt;
    return blocks;
  }

  bool equal_groups(const std::vector<Block>& blocks) const {
    std::vector<uint64_t> rows(layer_.groups);
    for (const Block& block : blocks) {
      uint32_t group = layer_.parts[layer_.tensors[block.tensor].part].group;
      if (group >= rows.size()) return false;
      rows[group] += block.count;
    }
    return std::all_of(rows.begin(), rows.end(), [&](uint64_t n) { return n == rows.front(); });
  }

  Status add(std::string name, const std::vector<Block>& blocks) {
    const formats::TensorEntry& first = entry(blocks[0].tensor);
    Stored stored;
    stored.name = std::move(name);
    stored.dtype = dtype_ != DType::invalid && is_plain_float(first.dtype) ? dtype_ : first.dtype;
    uint64_t rows = 0;
    for (const Block& block : blocks) {
      LS_CHECK(check_rows(block));
      rows += block.count;
    }
    stored.shape = first.shape;
    if (!stored.shape.empty()) stored.shape[0] = rows;
    if (blocks.size() > 1 && layer_.groups > 1) {
      stored.shape[0] = rows / layer_.groups;
      stored.shape.insert(stored.shape.begin(), layer_.groups);
    }
    stored.nbytes = *tensor_nbytes(stored.dtype, stored.shape);  // of whole rows
    auto index = static_cast<uint32_t>(out_.stored.size());
    uint64_t at = 0;
    for (const Block& block : blocks) at += add_block(index, stored, block, at);
    out_.stored.push_back(std::move(stored));
    return {};
  }

  /// Some rows of a tensor can be taken only where each is whole bytes.
  Status check_rows(const Block& block) const {
    const formats::TensorEntry& from = entry(block.tensor);
    const uint64_t rows = leading(block.tensor);
    if (block.count == rows || from.nbytes % rows == 0) return {};
    return Error{Code::invalid_checkpoint, "tensor can't be cut", escaped(from.name),
                 "found " + std::to_string(block.count) + " of " + std::to_string(rows) +
                     " rows of dtype " + std::string(name_of(from.dtype)) +
                     ", expected rows of whole bytes",
                 ""};
  }

  /// Returns the bytes that the block fills of the stored tensor.
  uint64_t add_block(uint32_t index, const Stored& stored, const Block& block, uint64_t at) {
    const formats::TensorEntry& from = entry(block.tensor);
    const uint64_t rows = leading(block.tensor);
    const uint64_t row = rows == 0 ? 0 : from.nbytes / rows;
    const uint64_t nbytes = block.count == rows ? from.nbytes : row * block.count;
    if (nbytes == 0) return 0;
    if (stored.dtype == from.dtype) {
      out_.identities.push_back(
          {index, block.tensor, false, row * block.begin, at, 1, nbytes, nbytes, nbytes, 0});
      return nbytes;
    }
    uint64_t elems = nbytes / layout_of(from.dtype)->block_nbytes;
    out_.casts.push_back({index, block.tensor, row * block.begin, at, elems});
    return elems * layout_of(stored.dtype)->block_nbytes;
  }

  const formats::Component& component_;
  const graph::Layer& layer_;
  const std::vector<uint32_t>& which_;
  DType dtype_;
  LayerPlan& out_;
};

}  // namespace

Status keep_layer(const formats::Component& component, const graph::Layer& layer, DType dtype,
                  LayerPlan& out) {
  std::vector<uint32_t> all(layer.tensors.size());
  std::iota(all.begin(), all.end(), 0u);
  return keep_tensors(component, layer, all, dtype, out);
}

Status keep_tensors(const formats::Component& component, const graph::Layer& layer,
                    const std::vector<uint32_t>& which, DType dtype, LayerPlan& out) {
  return Keeping(component, layer, which, dtype, out).run();
}

std::string codes_beside_a_scale(const formats::Component& component, const graph::Layer& layer) {
  std::string weight, scale;
  for (const graph::LayerTensor& one : layer.tensors) {
    const DType dtype = component.tensors[one.tensor].dtype;
    const bool is_weight = one.suffix == "weight" || one.suffix.ends_with(".weight");
    if (is_weight && !is_plain_float(dtype)) {
      weight = quoted(one.suffix) + " as " + std::string(name_of(dtype));
    }
    if (one.suffix.find("weight_scale") != std::string::npos) scale = one.suffix;
  }
  return weight.empty() || scale.empty() ? "" : weight + " beside " + quoted(scale);
}

}  // namespace loadstone::plan
