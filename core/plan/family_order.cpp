#include "plan/family_order.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "base/checked.hpp"
#include "base/text.hpp"

namespace loadstone::plan {
namespace {

/// Bytes [begin, begin + 2·half) of a file, halves to exchange.
struct Range {
  uint64_t begin = 0, half = 0;
  uint64_t end() const { return begin + 2 * half; }
};

class SwappedFile : public File {
 public:
  /// `ranges` apart from each other, by their begin.
  SwappedFile(std::shared_ptr<const File> file, std::vector<Range> ranges)
      : File(file->path()), file_(std::move(file)), ranges_(std::move(ranges)) {}

  ssize_t pread_some(std::span<std::byte> into, uint64_t offset) const override {
    const auto next =
        std::upper_bound(ranges_.begin(), ranges_.end(), offset,
                         [](uint64_t at, const Range& one) { return at < one.end(); });
    if (next == ranges_.end()) return file_->pread_some(into, offset);
    uint64_t limit = next->begin, from = offset;
    if (offset >= next->begin) {
      const bool first = offset < next->begin + next->half;
      limit = first ? next->begin + next->half : next->end();
      from = first ? offset + next->half : offset - next->half;
    }
    return file_->pread_some(into.first(std::min<uint64_t>(into.size(), limit - offset)), from);
  }
  Result<FileIdentity> identity() const override { return file_->identity(); }
  Result<std::string> resolved() const override { return file_->resolved(); }
  void will_need(uint64_t offset, uint64_t nbytes) const override {
    file_->will_need(offset, nbytes);
  }

 private:
  std::shared_ptr<const File> file_;
  std::vector<Range> ranges_;
};

/// Tensors that have one row, or one entry, for each row of the weight or for equal blocks of them.
bool goes_by_rows(std::string_view suffix) {
  for (const char* one : {"", "weight", "bias", "weight_scale", "weight_scale_inv",
                          "weight_dual_scale", "scale_weight", "linear.weight", "linear.bias"}) {
    if (suffix == one) return true;
  }
  return false;
}

Result<uint64_t> half_of(const formats::TensorEntry& tensor, const std::string& suffix,
                         const graph::Part& part) {
  const auto count = checked_numel({tensor.shape.data(), tensor.shape.size()});
  if (count == 1) return 0;  // of the whole weight
  const uint64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  const bool fits = goes_by_rows(suffix) && rows % 2 == 0 && rows != 0 &&
                    part.out_count % rows == 0 && part.out_count == part.file_total;
  if (fits) return tensor.nbytes / 2;
  return Error{Code::unsupported, "halves can't be exchanged", escaped(tensor.name),
               "found " + std::to_string(rows) + " leading rows for " +
                   std::to_string(part.out_count) +
                   " of the layer, expected a weight, bias or scale of an even number of equal "
                   "blocks of rows",
               ""};
}

}  // namespace

Result<std::shared_ptr<const formats::Checkpoint>> in_family_order(
    std::shared_ptr<const formats::Checkpoint> checkpoint, const graph::Graph& graph) {
  std::map<uint32_t, std::map<uint64_t, Range>> ranges;  // by file, by offset
  for (const graph::Layer& layer : graph.layers) {
    const auto& component =
        checkpoint->components[graph.components[layer.component].checkpoint_component];
    for (const graph::LayerTensor& one : layer.tensors) {
      const graph::Part& part = layer.parts[one.part];
      if (part.transform != "swap_halves") continue;
      const formats::TensorEntry& tensor = component.tensors[one.tensor];
      LS_TRY(const uint64_t half, half_of(tensor, one.suffix, part));
      ranges[tensor.file][tensor.offset] = {tensor.offset, half};
    }
  }
  if (ranges.empty()) return checkpoint;
  auto out = std::make_shared<formats::Checkpoint>(*checkpoint);
  for (const auto& [file, by_offset] : ranges) {
    std::vector<Range> all;
    for (const auto& [offset, range] : by_offset) all.push_back(range);
    out->files[file].file = std::make_shared<SwappedFile>(out->files[file].file, std::move(all));
  }
  return std::shared_ptr<const formats::Checkpoint>(std::move(out));
}

}  // namespace loadstone::plan
