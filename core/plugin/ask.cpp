#include <algorithm>
#include <map>
#include <set>

#include "base/checked.hpp"
#include "base/dtype.hpp"
#include "base/text.hpp"
#include "plugin/foreign.hpp"
#include "plugin/saving.hpp"
#include "plugin/sinks.hpp"

namespace loadstone::plugin {

namespace {

constexpr uint64_t kMaxAlign = 1u << 20;
constexpr uint64_t kMaxScratch = 1ull << 40;
constexpr uint64_t kMaxRuns = 1u << 22;         // of identities that are looked at one by one
constexpr uint64_t kMaxValueNbytes = 1u << 20;  // needs_value, a group

bool is_align(uint64_t align) { return (align & (align - 1)) == 0 && align <= kMaxAlign; }

std::optional<uint64_t> nbytes_of(uint32_t dtype, std::span<const uint64_t> shape) {
  const auto layout = layout_of(static_cast<DType>(dtype));
  const auto elems = checked_numel(shape);
  if (!layout || !elems) return std::nullopt;
  const uint64_t row = shape.empty() ? 1 : shape.back();
  if (row % layout->block_elems != 0) return std::nullopt;
  return checked_mul(*elems / layout->block_elems, layout->block_nbytes);
}

/// Holds one answer against the layer that it answers.
class AnswerCheck {
 public:
  AnswerCheck(const Method& method, const ls_layer& layer, LayerAnswer& answer)
      : method_(method), layer_(layer), answer_(answer) {}

  Status run(uint32_t works) {
    if (works != 1) return refuse("found " + std::to_string(works) + " plan_work, expected one");
    LS_CHECK(work());
    for (ls_source& source : answer_.sources) LS_CHECK(this->source(source));
    const bool asks = std::any_of(answer_.sources.begin(), answer_.sources.end(), [&](auto& s) {
      return s.mode == LS_SOURCE_NEEDS_VALUE && layer_.tensors[s.tensor]->value == nullptr;
    });
    // An answer that asks for values is dropped: only its questions count.
    if (asks) return {};
    for (size_t i = 0; i < answer_.stored.size(); ++i) LS_CHECK(stored(i));
    LS_CHECK(identities());
    LS_CHECK(repacks());
    for (const auto& [tensor, reason] : answer_.unused) {
      if (tensor >= layer_.tensor_count) return refuse("unused: found tensor out of range");
      if (reason.empty()) return refuse("unused: " + label(tensor) + ": found no reason");
      used_.insert(tensor);
    }
    const uint32_t verdict = answer_.work.verdict;
    if (verdict != LS_VERDICT_QUANTIZE && verdict != LS_VERDICT_DECODE) return {};
    if (answer_.stored.empty()) return refuse("found no stored tensor");
    LS_CHECK(needs_functions());
    return all_used();
  }

 private:
  Error refuse(std::string detail) const {
    return Error{Code::internal, std::string(method_.name()) + " gave a wrong plan",
                 escaped(foreign_text(layer_.path)), std::move(detail), ""};
  }

  std::string label(uint32_t tensor) const {
    const ls_tensor& t = *layer_.tensors[tensor];
    return "tensor " + loadstone::quoted(foreign_text(t.name)) + " of part " +
           std::to_string(t.part);
  }

  uint64_t rows_of(const ls_tensor& tensor) const {
    uint64_t rows = 1;
    for (uint32_t axis = 0; axis + 1 < tensor.rank; ++axis) rows *= tensor.shape[axis];
    return rows;
  }

  Status work() const {
    const ls_work& work = answer_.work;
    if (work.verdict < LS_VERDICT_QUANTIZE || work.verdict > LS_VERDICT_UNSUPPORTED) {
      return refuse("found verdict " + std::to_string(work.verdict) + ", expected 1 to 5");
    }
    if (work.passes > 2) return refuse("found " + std::to_string(work.passes) + " passes");
    if (work.bias > LS_BIAS_BY_METHOD) return refuse("found unknown bias");
    if (work.produce_on > LS_PLACE_ANY) return refuse("found unknown place");
    if (work.session_scratch > kMaxScratch || work.feed_scratch > kMaxScratch ||
        work.stat_nbytes > kMaxScratch) {
      return refuse("found more than 1 TiB of scratch or statistics");
    }
    const bool reasoned = work.verdict != LS_VERDICT_QUANTIZE && work.verdict != LS_VERDICT_DECODE;
    if (reasoned && answer_.reason.empty()) return refuse("found no reason for its verdict");
    const bool matrix = layer_.kind >= LS_KIND_LINEAR && layer_.kind <= LS_KIND_GATHER;
    if (work.verdict == LS_VERDICT_QUANTIZE && matrix && answer_.kernel.empty()) {
      return refuse("found no kernel name");
    }
    if (!(work.weight_error >= 0) || !(work.activation_error >= 0)) {
      return refuse("found an error bound that is negative or no number");
    }
    return {};
  }

  Status source(ls_source& source) {
    if (source.tensor >= layer_.tensor_count) return refuse("source: found tensor out of range");
    if (source.mode < LS_SOURCE_RESIDENT || source.mode > LS_SOURCE_NEEDS_VALUE) {
      return refuse("source: " + label(source.tensor) + ": found mode " +
                    std::to_string(source.mode));
    }
    used_.insert(source.tensor);
    const ls_tensor& tensor = *layer_.tensors[source.tensor];
    const uint64_t rows = rows_of(tensor);
    const auto end = checked_add(source.row_begin, source.row_count);
    if (!end || *end > rows || source.row_count == 0) {
      return refuse("source: " + label(source.tensor) + ": found rows [" +
                    std::to_string(source.row_begin) + ", +" + std::to_string(source.row_count) +
                    "), expected some of " + std::to_string(rows));
    }
    if (source.granule == 0) source.granule = 1;
    source.granule = std::min(source.granule, source.row_count);
    if (source.mode == LS_SOURCE_NEEDS_VALUE && tensor.nbytes > kMaxValueNbytes) {
      return refuse("source: " + label(source.tensor) + ": found needs_value of " +
                    std::to_string(tensor.nbytes) + " bytes, expected at most 1048576");
    }
    return {};
  }

  Status stored(size_t index) {
    const ls_stored& stored = answer_.stored[index];
    const std::string& name = answer_.stored_names[index];
    const std::string where = "stored tensor " + loadstone::quoted(name) + ": ";
    if (name.empty() || name.size() > 200) return refuse(where + "found no usable name");
    if (!names_.insert(name).second) return refuse(where + "found twice");
    if (stored.rank > LS_MAX_RANK) return refuse(where + "found more than 6 axes");
    if (!is_align(stored.align)) {
      return refuse(where + "found alignment " + std::to_string(stored.align) +
                    ", expected a power of two up to 1048576");
    }
    const auto nbytes = nbytes_of(stored.dtype, std::span(stored.shape, stored.rank));
    if (!nbytes) {
      return refuse(where + "found dtype " + std::to_string(stored.dtype) +
                    " and a shape that don't fit each other");
    }
    stored_nbytes_.push_back(*nbytes);
    return {};
  }

  Status identity(const ls_identity& identity) {
    if (identity.tensor >= layer_.tensor_count || identity.stored >= answer_.stored.size()) {
      return refuse("identity: found an index out of range");
    }
    used_.insert(identity.tensor);
    const std::string where = "identity of " + label(identity.tensor) + ": ";
    if (identity.rows == 0 || identity.row_nbytes == 0 || identity.checked > 1) {
      return refuse(where + "found no rows");
    }
    const auto inside = [&](uint64_t offset, uint64_t stride, uint64_t nbytes) {
      const auto last = checked_mul(identity.rows - 1, stride);
      const auto begin = last ? checked_add(offset, *last) : std::nullopt;
      const auto end = begin ? checked_add(*begin, identity.row_nbytes) : std::nullopt;
      return end && *end <= nbytes && (identity.rows == 1 || stride >= identity.row_nbytes);
    };
    if (!inside(identity.src_offset, identity.src_stride,
                layer_.tensors[identity.tensor]->nbytes)) {
      return refuse(where + "found blocks past the tensor's " +
                    std::to_string(layer_.tensors[identity.tensor]->nbytes) + " bytes");
    }
    if (!inside(identity.dst_offset, identity.dst_stride, stored_nbytes_[identity.stored])) {
      return refuse(where + "found blocks past the stored tensor's " +
                    std::to_string(stored_nbytes_[identity.stored]) + " bytes");
    }
    return {};
  }

  /// Identities of a stored tensor cover it exactly once.
  Status identities() {
    std::map<uint32_t, std::vector<std::pair<uint64_t, uint64_t>>> runs;
    uint64_t total = 0;
    for (const ls_identity& one : answer_.identities) {
      LS_CHECK(identity(one));
      const bool dense = one.rows == 1 || one.dst_stride == one.row_nbytes;
      const uint64_t count = dense ? 1 : one.rows;
      const uint64_t length = dense ? one.rows * one.row_nbytes : one.row_nbytes;
      total += count;
      if (total > kMaxRuns) return refuse("identities: found more than 4194304 runs");
      for (uint64_t i = 0; i < count; ++i) {
        runs[one.stored].emplace_back(one.dst_offset + i * one.dst_stride, length);
      }
    }
    for (auto& [stored, list] : runs) {
      std::sort(list.begin(), list.end());
      uint64_t at = 0;
      size_t fitting = 0;
      for (const auto& [begin, length] : list) {
        if (begin != at) break;
        at += length;
        ++fitting;
      }
      if (fitting != list.size() || at != stored_nbytes_[stored]) {
        return refuse("identities of stored tensor " +
                      loadstone::quoted(answer_.stored_names[stored]) +
                      ": found a gap or an overlap at byte " + std::to_string(at) + " of " +
                      std::to_string(stored_nbytes_[stored]));
      }
      identical_.insert(stored);
    }
    return {};
  }

  Status repacks() const {
    std::set<uint32_t> seen;
    for (const ls_repack& repack : answer_.repacks) {
      if (repack.stored >= answer_.stored.size() || !is_align(repack.align) || repack.nbytes == 0 ||
          repack.nbytes > kMaxScratch) {
        return refuse("repack: found an index, size or alignment out of range");
      }
      if (!seen.insert(repack.stored).second) return refuse("repack: found one tensor twice");
    }
    if (!answer_.repacks.empty() && method_.table().repack == nullptr) {
      return refuse("found repack wishes, expected a repack function with them");
    }
    return {};
  }

  Status needs_functions() const {
    const ls_method& table = method_.table();
    const bool streams = std::any_of(answer_.sources.begin(), answer_.sources.end(),
                                     [](auto& s) { return s.mode == LS_SOURCE_STREAMED; }) ||
                         std::any_of(answer_.identities.begin(), answer_.identities.end(),
                                     [](auto& i) { return i.checked != 0; });
    const bool produces = identical_.size() < answer_.stored.size();
    if ((produces || streams) && table.begin == nullptr) {
      return refuse("found tensors to produce, expected begin, feed and end");
    }
    if (streams && table.feed == nullptr) return refuse("found pieces to feed and no feed");
    if ((answer_.work.passes == 2 || answer_.work.stat_nbytes > 0) && table.merge == nullptr) {
      return refuse("found statistics and no merge");
    }
    return {};
  }

  Status all_used() const {
    const bool by_host = answer_.work.bias != LS_BIAS_BY_METHOD && layer_.has_bias != 0;
    for (uint32_t i = 0; i < layer_.tensor_count; ++i) {
      if (used_.contains(i) || layer_.tensors[i]->value != nullptr) continue;  // a value was read
      const std::string_view name = foreign_text(layer_.tensors[i]->name);
      const bool is_bias = name == "bias" || name.ends_with(".bias");
      if (by_host && is_bias) continue;
      return refuse(label(i) + ": found neither read nor declared unused");
    }
    return {};
  }

  const Method& method_;
  const ls_layer& layer_;
  LayerAnswer& answer_;
  std::set<uint32_t> used_, identical_;
  std::set<std::string> names_;
  std::vector<uint64_t> stored_nbytes_;
};

Error prefixed(Error error, const Method& method) {
  return std::move(error).at("plugin " + method.plugin());
}

}  // namespace

Result<LayerAnswer> ask_plan(const MethodConfig& config, const ls_layer& layer,
                             const ls_target& target, const ls_layer* handed) {
  const Method& method = config.method();
  LayerAnswer answer;
  ls_sink sink{ls_sink::Kind::plan};
  sink.plan = &answer;
  if (handed == nullptr) handed = &layer;
  const int32_t status = call_plugin(
      [&] { return method.table().plan_layer(config.handle(), handed, &target, &sink); });
  LS_CHECK(check_call(status, method, "plan_layer", foreign_text(layer.path)));
  Status checked = AnswerCheck(method, layer, answer).run(sink.works);
  if (!checked.ok()) return prefixed(std::move(checked).error(), method);
  return answer;
}

Result<std::vector<SavedTensor>> ask_save(const MethodConfig& config, const ls_layer& layer,
                                          uint64_t note) {
  const Method& method = config.method();
  if (method.table().save_layer == nullptr) {
    return Error{Code::unsupported, "method has no serialized form", escaped(method.name()), "",
                 ""};
  }
  std::vector<SavedTensor> saved;
  ls_sink sink{ls_sink::Kind::save_layer};
  sink.saved = &saved;
  const int32_t status =
      call_plugin([&] { return method.table().save_layer(config.handle(), &layer, note, &sink); });
  LS_CHECK(check_call(status, method, "save_layer", foreign_text(layer.path)));
  std::set<std::pair<uint32_t, std::string>> names;
  for (SavedTensor& tensor : saved) {
    const auto nbytes = nbytes_of(static_cast<uint32_t>(tensor.dtype), tensor.shape);
    if (!nbytes || tensor.part >= layer.part_count || tensor.name.empty() ||
        !names.emplace(tensor.part, tensor.name).second) {
      return prefixed(Error{Code::internal, std::string(method.name()) + " saves a wrong tensor",
                            escaped(foreign_text(layer.path)),
                            "found " + loadstone::quoted(tensor.name) + " of part " +
                                std::to_string(tensor.part),
                            ""},
                      method);
    }
    tensor.nbytes = *nbytes;
  }
  return saved;
}

Result<Node> ask_save_model(const MethodConfig& config) {
  const Method& method = config.method();
  if (method.table().save_model == nullptr) {
    return Error{Code::unsupported, "method has no serialized form", escaped(method.name()), "",
                 ""};
  }
  std::string json;
  ls_sink sink{ls_sink::Kind::save_model};
  sink.json = &json;
  const int32_t status =
      call_plugin([&] { return method.table().save_model(config.handle(), &sink); });
  LS_CHECK(check_call(status, method, "save_model", ""));
  return parse_json(json, std::string(method.name()) + " declaration");
}

}  // namespace loadstone::plugin
