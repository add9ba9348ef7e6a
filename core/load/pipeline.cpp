#include "load/pipeline.hpp"

#include <algorithm>
#include <vector>

#include "base/text.hpp"
#include "config/load_dtype.hpp"
#include "config/load_io.hpp"
#include "config/pattern.hpp"
#include "device/cuda.hpp"
#include "formats/gguf_reference.hpp"

namespace loadstone::load {

namespace {

/// `part` of `other` becomes component `own` of `checkpoint`. A single file says nothing of its
/// class: then the component's own config stays.
void put_in_place(formats::Component part, formats::Checkpoint& other, formats::Component& own,
                  formats::Checkpoint& checkpoint) {
  const auto shift = static_cast<uint32_t>(checkpoint.files.size());
  for (formats::TensorEntry& tensor : part.tensors) tensor.file += shift;
  part.name = own.name;
  part.folder = own.folder;
  if (other.layout == formats::Layout::single_file) {
    part.config = own.config;
    part.class_name = own.class_name;
    part.library = own.library;
  }
  own = std::move(part);
  for (formats::FileEntry& file : other.files) checkpoint.files.push_back(std::move(file));
  for (std::string& note : other.notes) checkpoint.notes.push_back(std::move(note));
}

/// Replaces a component's tensors, config and declarations by those of another checkpoint.
Status replace_component(formats::Checkpoint& checkpoint, const config::ComponentSource& source,
                         formats::Checkpoint other) {
  auto named = [&](const formats::Component& component) { return component.name == source.name; };
  auto own = std::find_if(checkpoint.components.begin(), checkpoint.components.end(), named);
  if (own == checkpoint.components.end()) {
    std::vector<std::string> names;
    for (const formats::Component& component : checkpoint.components) {
      names.push_back(component.name);
    }
    std::string hint = nearest(source.name, names);
    return Error{Code::invalid_config, "component does not exist", source.mark.text(),
                 "found " + quoted(source.name) + ", expected " + join(names),
                 hint.empty() ? "" : quoted(hint)};
  }
  auto part = std::find_if(other.components.begin(), other.components.end(), named);
  if (part == other.components.end() && other.components.size() == 1) {
    part = other.components.begin();
  }
  if (part == other.components.end()) {
    return Error{Code::invalid_config, "component source holds other components",
                 source.mark.text(),
                 "found " + std::to_string(other.components.size()) + " in " + quoted(source.path) +
                     ", expected one, or one called " + quoted(source.name),
                 ""};
  }
  part->replaced = std::make_shared<const formats::Component>(*own);
  put_in_place(std::move(*part), other, *own, checkpoint);
  return {};
}

/// A component of the base model that is to come from a GGUF file.
struct GgufSource {
  std::string component;
  const Node* reference = nullptr;
};

const Node* gguf_model_of(const config::Choice& choice) {
  const Node* value = choice ? choice->field("gguf_model") : nullptr;
  return value != nullptr && value->is_text() ? value : nullptr;
}

/// One file is one component's: an entry that means several, or layers of one, can't name it.
Error names_no_component(const Node& reference, const std::string& found) {
  return Error{Code::invalid_config, "gguf_model without a component", reference.mark().text(),
               "found it " + found + ", expected it for one component, such as transformer", ""};
}

/// What the configuration takes from GGUF files; a flat method's is the transformer.
Result<std::vector<GgufSource>> gguf_sources(const config::QuantConfig& quantization) {
  std::vector<GgufSource> out;
  if (const Node* flat = gguf_model_of(quantization.flat)) out.push_back({"transformer", flat});
  for (const auto& [key, choice] : quantization.components) {
    const Node* reference = gguf_model_of(choice);
    if (reference == nullptr) continue;
    if (key == "default" || config::is_pattern(key)) {
      return names_no_component(*reference, "for " + quoted(key));
    }
    out.push_back({key, reference});
  }
  for (const config::Rule& rule : quantization.rules) {
    if (const Node* reference = gguf_model_of(rule.use)) {
      return names_no_component(*reference, "in a rule");
    }
  }
  return out;
}

/// The file's tensors in the place of the component's; class and config stay the base model's.
Status take_from_gguf(FileSystem& files, const GgufSource& source,
                      formats::Checkpoint& checkpoint) {
  auto& components = checkpoint.components;
  auto own = std::find_if(components.begin(), components.end(),
                          [&](const auto& one) { return one.name == source.component; });
  const bool alone = components.size() == 1 && components[0].name.empty();
  if (own == components.end() && alone) own = components.begin();
  if (own == components.end()) {
    std::vector<std::string> names;
    for (const auto& one : components) names.push_back(one.name);
    return Error{
        Code::invalid_config, "component does not exist", "",
        "found gguf_model for " + quoted(source.component) + ", expected it for " + join(names),
        ""};
  }
  LS_TRY(const std::string path, formats::find_gguf(files, source.reference->text(),
                                                    formats::HubEnvironment::of_process()));
  LS_TRY(formats::Checkpoint other, formats::open_checkpoint(files, path));
  formats::Component& part = other.components.front();
  if (!part.gguf) {
    return Error{Code::invalid_config, "gguf_model rejected", escaped(path),
                 "found another container, expected GGUF", ""};
  }
  part.replaced = std::make_shared<const formats::Component>(*own);
  put_in_place(std::move(part), other, *own, checkpoint);
  return {};
}

}  // namespace

Result<std::shared_ptr<const formats::Checkpoint>> open_model(
    FileSystem& files, const config::PipelineConfig& pipeline) {
  formats::OpenOptions options;
  for (const config::ComponentSource& source : pipeline.components) {
    options.elsewhere.push_back(source.name);
  }
  LS_TRY(formats::Checkpoint checkpoint, formats::open_checkpoint(files, pipeline.model, options));
  for (const config::ComponentSource& source : pipeline.components) {
    auto other = formats::open_checkpoint(files, source.path);
    if (!other.ok()) return std::move(other).error().at(source.mark.text());
    LS_CHECK(replace_component(checkpoint, source, *std::move(other)));
  }
  LS_TRY(const auto ggufs, gguf_sources(pipeline.quantization));
  for (const GgufSource& source : ggufs) {
    Status taken = take_from_gguf(files, source, checkpoint);
    if (!taken.ok()) return std::move(taken).error().at(source.reference->mark().text());
  }
  return std::make_shared<const formats::Checkpoint>(std::move(checkpoint));
}

Result<plan::Target> find_target(const std::string& name) {
  LS_TRY(plan::Target target, plan::parse_target(name));
  if (target.index < 0) return target;
  LS_TRY(auto found, device::properties(static_cast<uint32_t>(target.index)));
  target.sm = found.sm;
  return target;
}

Result<plan::LoadOptions> load_options(const config::LoadSection& section) {
  plan::LoadOptions options;
  LS_TRY(options.dtype, config::parse_load_dtype(section.dtype));
  if (section.ring_nbytes != 0) options.ring_nbytes = section.ring_nbytes;
  LS_TRY(options.map_files, config::parse_load_io(section.io));
  options.threads = section.threads;
  options.place = section.place;
  for (const auto& [component, placement] : section.place) {
    auto target = find_target(placement.device);
    if (!target) return std::move(target).error().at(placement.where());
    if (target->index >= 0) options.device_sm[placement.device] = target->sm;
  }
  return options;
}

}  // namespace loadstone::load
