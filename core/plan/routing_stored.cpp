#include "plan/routing_stored.hpp"

#include "base/text.hpp"

namespace loadstone::plan {

void StoredForms::add(const graph::Layer& layer, const Declared& declared, const LayerNames& names,
                      bool serialized) {
  Counts& counts = counts_[declared.where()];
  counts.method = declared.method();
  if (serialized) ++counts.serialized;
  if (!is_product(layer)) return;
  const bool covered = declared.covers(names);
  if (covered && !serialized) {
    if (counts.plain++ == 0) counts.first_plain = layer.path;
  } else if (!covered && serialized) {
    if (counts.undeclared++ == 0) counts.first_undeclared = layer.path;
  }
}

void StoredForms::add_orphan(const graph::Layer& layer) {
  if (orphan_.empty()) orphan_ = layer.path;
  ++orphans_;
}

void StoredForms::check_one(const std::string& where, const Counts& counts,
                            std::vector<std::string>& notes, config::Problems& problems) {
  if (counts.serialized == 0 && counts.plain == 0) {
    notes.push_back(where + ": declares no layer quantized");
    return;
  }
  if (counts.serialized == 0) {
    problems.add(Error{Code::invalid_checkpoint,
                       "declaration without quantized tensors",
                       where,
                       "found " + counts.method +
                           " declared and every layer stored plain, "
                           "expected quantized weights or scales",
                       "",
                       {}});
    return;
  }
  if (counts.plain > 0) {
    notes.push_back(where + ": " + std::to_string(counts.plain) + " layers, the first " +
                    quoted(counts.first_plain) + ", are declared quantized and stored plain: kept");
  }
  if (counts.undeclared > 0) {
    notes.push_back(where + ": " + std::to_string(counts.undeclared) + " layers, the first " +
                    quoted(counts.first_undeclared) +
                    ", are declared kept and stored quantized: read as stored");
  }
}

void StoredForms::check(const std::string& model, std::vector<std::string>& notes,
                        config::Problems& problems) const {
  for (const auto& [where, counts] : counts_) check_one(where, counts, notes, problems);
  if (orphans_ == 0) return;
  problems.add(Error{Code::invalid_checkpoint,
                     "quantized tensors without a declaration",
                     model,
                     "found " + std::to_string(orphans_) + " layers, the first " + quoted(orphan_) +
                         ", expected a quantization_config beside them, or "
                         "a method for their component",
                     "",
                     {}});
}

}  // namespace loadstone::plan
