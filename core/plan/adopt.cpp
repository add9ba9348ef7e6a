#include "plan/adopt.hpp"

#include <algorithm>
#include <set>

#include "base/checked.hpp"
#include "base/text.hpp"

namespace loadstone::plan {

namespace {

constexpr uint64_t kMaxIdentityRows = 16'000'000;  // of one layer
constexpr uint32_t kMaxAlign = 4096;

/// One past the last byte of `rows` runs, or nullopt on overflow.
std::optional<uint64_t> end_of(uint64_t offset, uint64_t rows, uint64_t row, uint64_t stride) {
  if (rows == 0 || row == 0) return offset;
  auto last = checked_mul(rows - 1, stride);
  auto begin = last ? checked_add(offset, *last) : std::nullopt;
  return begin ? checked_add(*begin, row) : std::nullopt;
}

class Adoption {
 public:
  Adoption(const formats::Component& component, const graph::Layer& layer, const Asked& asked,
           LayerPlan& out)
      : component_(component), layer_(layer), asked_(asked), answer_(asked.answer), out_(out) {}

  Status run() {
    take_work();
    LS_CHECK(take_stored());
    LS_CHECK(take_repacks());
    LS_CHECK(take_sources());
    LS_CHECK(take_identities());
    LS_CHECK(check_coverage());
    return check_all_read();
  }

 private:
  Error broken(const std::string& what, const std::string& where, const std::string& detail) const {
    return Error{Code::internal, what, escaped(layer_.path) + (where.empty() ? "" : ": " + where),
                 detail, ""};
  }
  const formats::TensorEntry& entry(uint32_t tensor) const {
    return component_.tensors[layer_.tensors[tensor].tensor];
  }

  void take_work() {
    const ls_work& work = answer_.work;
    out_.passes = work.passes == 2 ? 2 : 1;
    out_.bias = work.bias == LS_BIAS_BY_METHOD ? LS_BIAS_BY_METHOD : LS_BIAS_BY_HOST;
    out_.note = work.note;
    out_.stat_nbytes = work.stat_nbytes;
    out_.session_scratch = work.session_scratch;
    out_.feed_scratch = work.feed_scratch;
    out_.kernel = answer_.kernel;
    out_.unused = answer_.unused;
    out_.values = asked_.values;
  }

  Status take_stored() {
    std::set<std::string> names;
    for (size_t i = 0; i < answer_.stored.size(); ++i) {
      const ls_stored& from = answer_.stored[i];
      Stored stored;
      stored.name = answer_.stored_names[i];
      stored.dtype = static_cast<DType>(from.dtype);
      stored.shape.assign(from.shape, from.shape + std::min<uint32_t>(from.rank, LS_MAX_RANK));
      stored.align = from.align == 0 ? 64 : from.align;
      auto nbytes = tensor_nbytes(stored.dtype, stored.shape);
      if (!nbytes || from.rank > LS_MAX_RANK) {
        return broken(
            "stored tensor rejected", escaped(stored.name),
            "found a dtype or shape without a size, expected whole rows of a known dtype");
      }
      if ((stored.align & (stored.align - 1)) != 0 || stored.align > kMaxAlign) {
        return broken("stored tensor rejected", escaped(stored.name),
                      "found alignment " + std::to_string(stored.align) +
                          ", expected a power of two up to 4096");
      }
      if (!names.insert(stored.name).second) {
        return broken("stored tensor rejected", escaped(stored.name),
                      "found its name twice, expected names unique within the layer");
      }
      stored.align = std::max<uint64_t>(stored.align, 64);
      stored.nbytes = *nbytes;
      out_.stored.push_back(std::move(stored));
    }
    return {};
  }

  Status take_repacks() {
    for (size_t i = 0; i < answer_.repacks.size(); ++i) {
      const ls_repack& wish = answer_.repacks[i];
      if (wish.stored >= out_.stored.size()) {
        return broken("repack rejected", "", "found a stored index out of range");
      }
      Stored& stored = out_.stored[wish.stored];
      if (stored.packed_nbytes != 0 || wish.nbytes == 0 || (wish.align & (wish.align - 1)) != 0 ||
          wish.align > kMaxAlign) {
        return broken("repack rejected", escaped(stored.name),
                      "found a second wish, no bytes or an odd alignment");
      }
      stored.packed_nbytes = wish.nbytes;
      stored.packed_align = std::max<uint64_t>(wish.align, 64);
      stored.packed_wish = static_cast<uint32_t>(i);
    }
    return {};
  }

  Status take_sources() {
    for (const ls_source& from : answer_.sources) {
      if (from.mode == LS_SOURCE_NEEDS_VALUE) continue;  // answered from the values
      const formats::TensorEntry& tensor = entry(from.tensor);
      auto end = checked_add(from.row_begin, from.row_count);
      if (!end || *end > row_count(tensor)) {
        return broken("source rejected", escaped(tensor.name),
                      "found rows [" + std::to_string(from.row_begin) + ", +" +
                          std::to_string(from.row_count) + "), expected at most " +
                          std::to_string(row_count(tensor)) + " rows");
      }
      Source source;
      source.tensor = from.tensor;
      source.resident = from.mode == LS_SOURCE_RESIDENT;
      source.tag = from.tag;
      source.row_begin = from.row_begin;
      source.row_count = from.row_count;
      source.granule = std::clamp<uint64_t>(from.granule, 1, std::max<uint64_t>(from.row_count, 1));
      out_.sources.push_back(source);
    }
    return {};
  }

  Status take_identities() {
    for (const ls_identity& from : answer_.identities) {
      const formats::TensorEntry& tensor = entry(from.tensor);
      if (from.stored >= out_.stored.size()) {
        return broken("identity rejected", escaped(tensor.name),
                      "found a stored index out of range");
      }
      const Stored& stored = out_.stored[from.stored];
      auto src_end = end_of(from.src_offset, from.rows, from.row_nbytes, from.src_stride);
      auto dst_end = end_of(from.dst_offset, from.rows, from.row_nbytes, from.dst_stride);
      if (!src_end || *src_end > tensor.nbytes || !dst_end || *dst_end > stored.nbytes) {
        return broken("identity rejected", escaped(tensor.name),
                      "found bytes past the end of the source or of " + quoted(stored.name));
      }
      if (from.rows > 1 &&
          (from.src_stride < from.row_nbytes || from.dst_stride < from.row_nbytes)) {
        return broken("identity rejected", escaped(tensor.name),
                      "found a stride shorter than its row");
      }
      out_.identities.push_back({from.stored, from.tensor, from.checked != 0, from.src_offset,
                                 from.dst_offset, from.rows, from.row_nbytes, from.src_stride,
                                 from.dst_stride, from.tag});
    }
    return {};
  }

  /// Blocks of one stored tensor: none, or each byte exactly once.
  Status check_coverage() {
    std::vector<std::vector<std::pair<uint64_t, uint64_t>>> blocks(out_.stored.size());
    uint64_t rows = 0;
    for (const Identity& identity : out_.identities) {
      bool dense = identity.dst_stride == identity.row_nbytes || identity.rows == 1;
      rows += dense ? 1 : identity.rows;
      if (rows > kMaxIdentityRows) {
        return broken("identity rejected", "", "found more than 16000000 blocks in one layer");
      }
      auto& list = blocks[identity.stored];
      if (dense) {
        list.emplace_back(identity.dst_offset, identity.rows * identity.row_nbytes);
        continue;
      }
      for (uint64_t i = 0; i < identity.rows; ++i) {
        list.emplace_back(identity.dst_offset + i * identity.dst_stride, identity.row_nbytes);
      }
    }
    for (size_t i = 0; i < blocks.size(); ++i) {
      auto& list = blocks[i];
      if (list.empty()) continue;
      std::sort(list.begin(), list.end());
      uint64_t reached = 0;
      for (auto [begin, nbytes] : list) {
        if (nbytes == 0) continue;
        if (begin != reached) {
          return broken("identity rejected", escaped(out_.stored[i].name),
                        "found byte " + std::to_string(std::min(begin, reached)) +
                            (begin < reached ? " covered twice" : " not covered") +
                            ", expected each exactly once");
        }
        reached = begin + nbytes;
      }
      if (reached != out_.stored[i].nbytes) {
        return broken("identity rejected", escaped(out_.stored[i].name),
                      "found " + std::to_string(reached) + " bytes covered, expected " +
                          std::to_string(out_.stored[i].nbytes));
      }
    }
    return {};
  }

  Status check_all_read() const {
    std::vector<bool> known(layer_.tensors.size(), false);
    for (const Source& source : out_.sources) known[source.tensor] = true;
    for (const Identity& identity : out_.identities) known[identity.tensor] = true;
    for (const Value& value : out_.values) known[value.tensor] = true;
    for (const auto& [tensor, reason] : out_.unused) known[tensor] = true;
    std::vector<std::string> unread;
    for (size_t i = 0; i < known.size(); ++i) {
      if (!known[i]) unread.push_back(quoted(entry(static_cast<uint32_t>(i)).name));
    }
    if (unread.empty()) return {};
    return Error{Code::invalid_checkpoint, "tensor is neither read nor declared unused",
                 escaped(layer_.path) + " (" + std::string(out_.method) + ")",
                 "found " + join(unread, " and ", 4) + ", expected a use for every tensor", ""};
  }

  const formats::Component& component_;
  const graph::Layer& layer_;
  const Asked& asked_;
  const plugin::LayerAnswer& answer_;
  LayerPlan& out_;
};

}  // namespace

Status adopt_answer(const formats::Component& component, const graph::Layer& layer,
                    const Asked& asked, LayerPlan& out) {
  return Adoption(component, layer, asked, out).run();
}

}  // namespace loadstone::plan
