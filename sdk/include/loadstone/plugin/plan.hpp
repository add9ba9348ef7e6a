// The answer of plan_layer, built in the plugin and handed over in one go.
#pragma once

#include <deque>
#include <initializer_list>
#include <span>
#include <vector>

#include "layer.hpp"

namespace loadstone::sdk {

/// Collects sources, stored tensors, identities and the verdict of one layer.
class Plan {
 public:
  Plan() : work_(make<ls_work>()) {}

  // ---- verdicts; the last one counts ----
  /// `kernel` names what apply will run.
  ls_work& quantize(std::string kernel) {
    kernel_ = std::move(kernel);
    work_.verdict = LS_VERDICT_QUANTIZE;
    return work_;
  }
  /// Plain floats of a serialized layer. Its sources, stored tensors and unused ones count too.
  ls_work& decode(std::string reason) { return decide(LS_VERDICT_DECODE, std::move(reason)); }
  void keep(std::string reason) { decide(LS_VERDICT_KEEP, std::move(reason)); }
  void split(std::string reason) { decide(LS_VERDICT_SPLIT, std::move(reason)); }
  void unsupported(std::string reason) { decide(LS_VERDICT_UNSUPPORTED, std::move(reason)); }
  /// Why, also where the verdict is to quantize.
  void reason(std::string text) { reason_ = std::move(text); }
  /// passes, bias, scratch, note, error bounds …
  ls_work& work() { return work_; }

  // ---- sources; each returns its index in begin's arrays ----
  /// The whole tensor, read before the first piece.
  uint32_t resident(const Tensor& tensor, uint64_t tag = 0) {
    return add(tensor, LS_SOURCE_RESIDENT, 0, tensor.rows(), 1, tag);
  }
  /// The whole tensor in pieces of `granule` rows.
  uint32_t streamed(const Tensor& tensor, uint64_t granule = 1, uint64_t tag = 0) {
    return add(tensor, LS_SOURCE_STREAMED, 0, tensor.rows(), granule, tag);
  }
  /// The rows of a tensor that belong to its part: a file may hold several parts in one tensor.
  uint32_t streamed_part(const Layer& layer, const Tensor& tensor, uint64_t granule = 1,
                         uint64_t tag = 0) {
    const Part part = layer.part(tensor.part);
    return add(tensor, LS_SOURCE_STREAMED, part.file_begin, part.out_count, granule, tag);
  }
  /// Ask again with the tensor's value; true when it is there already.
  bool needs_value(const Tensor& tensor) {
    if (tensor.value != nullptr) return true;
    add(tensor, LS_SOURCE_NEEDS_VALUE, 0, tensor.rows(), 1, 0);
    asks_ = true;
    return false;
  }
  uint32_t source(const ls_source& source) {
    sources_.push_back(source);
    return static_cast<uint32_t>(sources_.size() - 1);
  }
  void unused(const Tensor& tensor, std::string reason) {
    unused_.emplace_back(tensor.index, std::move(reason));
  }

  // ---- what lives on ----
  uint32_t stored(std::string name, uint32_t dtype, std::initializer_list<uint64_t> shape,
                  uint32_t align = 0) {
    return stored(std::move(name), dtype, std::span(shape.begin(), shape.size()), align);
  }
  uint32_t stored(std::string name, uint32_t dtype, std::span<const uint64_t> shape,
                  uint32_t align = 0) {
    ls_stored out = make<ls_stored>();
    out.dtype = dtype;
    out.rank = static_cast<uint32_t>(shape.size());
    out.align = align;
    std::fill(out.shape, out.shape + LS_MAX_RANK, uint64_t{1});
    if (out.rank > LS_MAX_RANK) fail(LS_INTERNAL, "stored tensor of more than LS_MAX_RANK axes");
    std::copy(shape.begin(), shape.end(), out.shape);
    out.name = names_.emplace_back(std::move(name)).c_str();
    stored_.push_back(out);
    return static_cast<uint32_t>(stored_.size() - 1);
  }
  /// Stored tensor `stored` at `dst_offset` is the tensor's `nbytes` from `src_offset`, byte for
  /// byte.
  void identity(uint32_t stored, const Tensor& tensor, uint64_t dst_offset = 0,
                uint64_t src_offset = 0, uint64_t nbytes = 0, bool checked = false,
                uint64_t tag = 0) {
    ls_identity out = make<ls_identity>();
    out.stored = stored;
    out.tensor = tensor.index;
    out.checked = checked ? 1 : 0;
    out.src_offset = src_offset;
    out.dst_offset = dst_offset;
    out.rows = 1;
    out.row_nbytes = out.src_stride = out.dst_stride = nbytes != 0 ? nbytes : tensor.nbytes;
    out.tag = tag;
    identities_.push_back(out);
  }
  void identity(const ls_identity& identity) { identities_.push_back(identity); }
  /// The tensor's rows that belong to its part into the layer's rows of `stored`, whose row is as
  /// many bytes as the tensor's.
  void identity_part(const Layer& layer, uint32_t stored, const Tensor& tensor,
                     bool checked = false, uint64_t tag = 0) {
    const Part part = layer.part(tensor.part);
    ls_identity out = make<ls_identity>();
    out.stored = stored;
    out.tensor = tensor.index;
    out.checked = checked ? 1 : 0;
    out.rows = part.out_count;
    out.row_nbytes = out.src_stride = out.dst_stride = tensor.row_nbytes;
    out.src_offset = part.file_begin * tensor.row_nbytes;
    out.dst_offset = part.out_begin * tensor.row_nbytes;
    out.tag = tag;
    identities_.push_back(out);
  }
  void repack(uint32_t stored, uint64_t nbytes, uint64_t align = 0) {
    ls_repack out = make<ls_repack>();
    out.stored = stored;
    out.nbytes = nbytes;
    out.align = align;
    repacks_.push_back(out);
  }

  const std::vector<ls_stored>& all_stored() const { return stored_; }
  const std::vector<ls_source>& all_sources() const { return sources_; }
  const std::vector<ls_identity>& all_identities() const { return identities_; }
  const std::vector<std::pair<uint32_t, std::string>>& all_unused() const { return unused_; }
  const ls_work& work() const { return work_; }
  uint32_t verdict() const { return work_.verdict; }
  /// Whether it asks for values first; then the rest of the answer doesn't count.
  bool asks() const { return asks_; }

  /// Tells the host.
  void send(ls_sink* sink) {
    if (work_.verdict == 0) fail(LS_INTERNAL, "plan gave no verdict");
    work_.reason = reason_.c_str();
    work_.kernel = kernel_.c_str();
    for (const auto& one : sources_) check_host(host().plan_source(sink, &one), "plan_source");
    for (const auto& one : stored_) check_host(host().plan_stored(sink, &one), "plan_stored");
    for (const auto& one : identities_) {
      check_host(host().plan_identity(sink, &one), "plan_identity");
    }
    for (const auto& one : repacks_) check_host(host().plan_repack(sink, &one), "plan_repack");
    for (const auto& [tensor, reason] : unused_) {
      check_host(host().plan_unused(sink, tensor, reason.c_str()), "plan_unused");
    }
    check_host(host().plan_work(sink, &work_), "plan_work");
  }

 private:
  ls_work& decide(uint32_t verdict, std::string reason) {
    work_.verdict = verdict;
    reason_ = std::move(reason);
    return work_;
  }
  uint32_t add(const Tensor& tensor, uint32_t mode, uint64_t row_begin, uint64_t row_count,
               uint64_t granule, uint64_t tag) {
    ls_source out = make<ls_source>();
    out.tensor = tensor.index;
    out.mode = mode;
    out.tag = tag;
    out.row_begin = row_begin;
    out.row_count = row_count;
    out.granule = granule;
    return source(out);
  }

  ls_work work_;
  bool asks_ = false;
  std::string reason_, kernel_;
  std::deque<std::string> names_;
  std::vector<ls_source> sources_;
  std::vector<ls_stored> stored_;
  std::vector<ls_identity> identities_;
  std::vector<ls_repack> repacks_;
  std::vector<std::pair<uint32_t, std::string>> unused_;
};

}  // namespace loadstone::sdk
