#include "plan/adopt.hpp"

#include <algorithm>

#include "plan/keep.hpp"

namespace loadstone::plan {

namespace {

constexpr uint64_t kMinAlign = 64;

void take_work(const Asked& asked, const graph::Layer& layer, LayerPlan& out) {
  const ls_work& work = asked.answer.work;
  out.in = work.in != 0 ? work.in : layer.in;
  out.passes = work.passes == 2 ? 2 : 1;
  out.bias = work.bias == LS_BIAS_BY_METHOD ? LS_BIAS_BY_METHOD : LS_BIAS_BY_HOST;
  out.note = work.note;
  out.produce_on = work.produce_on == 0 ? uint32_t{LS_PLACE_HOST} : work.produce_on;
  out.stat_nbytes = work.stat_nbytes;
  out.session_scratch = work.session_scratch;
  out.feed_scratch = work.feed_scratch;
  out.kernel = asked.answer.kernel;
  out.unused = asked.answer.unused;
  out.values = asked.values;
}

void take_stored(const plugin::LayerAnswer& answer, LayerPlan& out) {
  for (size_t i = 0; i < answer.stored.size(); ++i) {
    const ls_stored& from = answer.stored[i];
    Stored stored;
    stored.name = answer.stored_names[i];
    stored.dtype = static_cast<DType>(from.dtype);
    stored.shape.assign(from.shape, from.shape + from.rank);
    stored.align = std::max<uint64_t>(from.align, kMinAlign);
    stored.nbytes = *tensor_nbytes(stored.dtype, stored.shape);  // checked in ask_plan
    out.stored.push_back(std::move(stored));
  }
  for (size_t i = 0; i < answer.repacks.size(); ++i) {
    Stored& stored = out.stored[answer.repacks[i].stored];
    stored.packed_nbytes = answer.repacks[i].nbytes;
    stored.packed_align = std::max<uint64_t>(answer.repacks[i].align, kMinAlign);
    stored.packed_wish = static_cast<uint32_t>(i);
  }
  out.method_stored = static_cast<uint32_t>(out.stored.size());
}

void take_reads(const plugin::LayerAnswer& answer, LayerPlan& out) {
  for (const ls_source& from : answer.sources) {
    Source source;
    source.tensor = from.tensor;
    source.resident = from.mode != LS_SOURCE_STREAMED;
    source.from_value = from.mode == LS_SOURCE_NEEDS_VALUE;
    source.tag = from.tag;
    source.row_begin = from.row_begin;
    source.row_count = from.row_count;
    source.granule = std::max<uint64_t>(from.granule, 1);
    out.sources.push_back(source);
  }
  for (const ls_identity& from : answer.identities) {
    out.identities.push_back({from.stored, from.tensor, from.checked != 0, from.src_offset,
                              from.dst_offset, from.rows, from.row_nbytes, from.src_stride,
                              from.dst_stride, from.tag});
  }
}

/// A method without anything to produce, see or refuse is not called at all.
bool needs_session(const LayerPlan& plan) {
  if (!plan.sources.empty()) return true;
  std::vector<bool> identical(plan.stored.size(), false);
  for (const Identity& identity : plan.identities) {
    if (identity.checked) return true;
    identical[identity.stored] = true;
  }
  return std::find(identical.begin(), identical.end(), false) != identical.end();
}

std::vector<uint32_t> unnamed_tensors(const graph::Layer& layer, const LayerPlan& plan) {
  std::vector<bool> named(layer.tensors.size(), false);
  for (const Source& source : plan.sources) named[source.tensor] = true;
  for (const Identity& identity : plan.identities) named[identity.tensor] = true;
  for (const Value& value : plan.values) named[value.tensor] = true;
  for (const auto& [tensor, reason] : plan.unused) named[tensor] = true;
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < named.size(); ++i) {
    if (!named[i]) out.push_back(i);
  }
  return out;
}

}  // namespace

Status adopt_answer(const formats::Component& component, const graph::Layer& layer,
                    const Asked& asked, DType dtype, LayerPlan& out) {
  take_work(asked, layer, out);
  take_stored(asked.answer, out);
  take_reads(asked.answer, out);
  out.session = needs_session(out);
  // ask_plan leaves none but the host's biases unnamed.
  return keep_tensors(component, layer, unnamed_tensors(layer, out), dtype, out);
}

}  // namespace loadstone::plan
