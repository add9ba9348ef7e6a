#include "load/gguf_outputs.hpp"

#include <algorithm>
#include <map>

#include "base/text.hpp"

namespace loadstone::load {
namespace {

/// llama.cpp's LLAMA_FTYPE_MOSTLY_… of a block type.
constexpr std::pair<std::string_view, uint32_t> kFileTypes[] = {
    {"Q4_0", 2}, {"Q4_1", 3},   {"Q8_0", 7},   {"Q5_0", 8},
    {"Q5_1", 9}, {"TQ1_0", 36}, {"TQ2_0", 37}, {"MXFP4", 38}};
constexpr uint32_t kQuantizationVersion = 2;

Error unwritable(const std::string& name, std::string found, std::string expected) {
  return Error{Code::unsupported, "tensor can't be written as GGUF", loadstone::quoted(name),
               "found " + std::move(found) + ", expected " + std::move(expected), ""};
}

/// "X.weight"; a norm's scale is called by its own name: "X.query_norm.scale".
std::string original_name(const SavedOutput& output) {
  const std::string& module = output.place.name;
  if (module.empty()) return output.spec.name;
  const bool itself = output.suffix.empty() || module.ends_with(".scale");
  return itself ? module : module + "." + output.suffix;
}

std::string row_of(const SavedOutput& output) {
  std::string text(name_of(output.spec.dtype));
  for (size_t i = 1; i < output.spec.shape.size(); ++i) {
    text += " " + std::to_string(output.spec.shape[i]);
  }
  return text;
}

/// The second half of the rows before the first.
Status swap_halves(SavedOutput& output) {
  const uint64_t rows = output.spec.shape.empty() ? 1 : output.spec.shape[0];
  if (rows % 2 != 0 || output.pieces.size() != 1) {
    return unwritable(output.spec.name, std::to_string(rows) + " rows", "two halves");
  }
  SavedPiece first = output.pieces[0], second = first;
  first.nbytes = second.nbytes = output.nbytes / 2;
  second.offset = first.nbytes;
  output.pieces = {second, first};
  return {};
}

/// The modules that one original tensor holds, in its order.
class Joined {
 public:
  explicit Joined(std::string name) : name_(std::move(name)) {}

  Status add(SavedOutput output) {
    const auto fresh = parts_.emplace(output.place.index, std::move(output));
    if (fresh.second) return {};
    return unwritable(name_, "two tensors for part " + std::to_string(fresh.first->first), "one");
  }

  Result<SavedOutput> join() && {
    SavedOutput out = std::move(parts_.begin()->second);
    const uint32_t count = out.place.count;
    if (parts_.size() != count) {
      return unwritable(name_, std::to_string(parts_.size()) + " of its parts",
                        std::to_string(count));
    }
    out.spec.name = name_;
    if (out.place.transform == "swap_halves") LS_CHECK(swap_halves(out));
    for (auto part = std::next(parts_.begin()); part != parts_.end(); ++part) {
      const SavedOutput& next = part->second;
      if (row_of(next) != row_of(out) || next.spec.shape.empty()) {
        return unwritable(name_, "parts of " + row_of(out) + " and of " + row_of(next),
                          "one type and width");
      }
      out.spec.shape[0] += next.spec.shape[0];
      out.nbytes += next.nbytes;
      out.pieces.insert(out.pieces.end(), next.pieces.begin(), next.pieces.end());
    }
    return out;
  }

 private:
  std::string name_;
  std::map<uint32_t, SavedOutput> parts_;
};

/// The block type of most bytes.
std::string main_type(const std::vector<SavedOutput>& tensors) {
  std::map<std::string, uint64_t> nbytes;
  for (const SavedOutput& tensor : tensors) {
    if (is_ggml(tensor.spec.dtype)) {
      nbytes[std::string(name_of(tensor.spec.dtype))] += tensor.nbytes;
    }
  }
  return std::max_element(nbytes.begin(), nbytes.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

formats::GgufWriter::Metadata metadata_of(const std::string& architecture,
                                          const std::string& type) {
  formats::GgufWriter::Metadata out = {{"general.architecture", architecture},
                                       {"general.quantization_version", kQuantizationVersion}};
  for (const auto& [name, number] : kFileTypes) {
    if (name == type) out.emplace_back("general.file_type", number);
  }
  return out;
}

}  // namespace

Status make_gguf(const plan::Plan& plan, SavedComponent& component) {
  std::vector<Joined> joined;
  std::map<std::string, size_t> index;
  for (SavedFile& file : component.files) {
    for (SavedOutput& output : file.tensors) {
      std::string name = original_name(output);
      const auto [at, fresh] = index.emplace(name, joined.size());
      if (fresh) joined.emplace_back(std::move(name));
      LS_CHECK(joined[at->second].add(std::move(output)));
    }
  }
  SavedFile whole;
  for (Joined& one : joined) {
    LS_TRY(SavedOutput output, std::move(one).join());
    whole.tensors.push_back(std::move(output));
  }
  const auto owner = std::find_if(
      plan.graph.components.begin(), plan.graph.components.end(),
      [&](const auto& one) { return one.checkpoint_component == component.component; });
  const std::string type = main_type(whole.tensors);
  std::string family = plan.graph.family;
  std::replace(family.begin(), family.end(), '_', '-');
  whole.name = family + "-" + type + ".gguf";
  component.gguf = metadata_of(owner->gguf_architecture, type);
  component.files.clear();
  component.files.push_back(std::move(whole));
  return {};
}

}  // namespace loadstone::load
