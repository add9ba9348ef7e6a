#include "load/pipeline.hpp"

#include <algorithm>
#include <vector>

#include "base/text.hpp"
#include "device/cuda.hpp"

namespace loadstone::load {

namespace {

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
  auto shift = static_cast<uint32_t>(checkpoint.files.size());
  for (formats::TensorEntry& tensor : part->tensors) tensor.file += shift;
  part->name = own->name;
  part->folder = own->folder;
  *own = std::move(*part);
  for (formats::FileEntry& file : other.files) checkpoint.files.push_back(std::move(file));
  for (std::string& note : other.notes) checkpoint.notes.push_back(std::move(note));
  return {};
}

}  // namespace

Result<std::shared_ptr<const formats::Checkpoint>> open_model(
    FileSystem& files, const config::PipelineConfig& pipeline) {
  LS_TRY(formats::Checkpoint checkpoint, formats::open_checkpoint(files, pipeline.model));
  for (const config::ComponentSource& source : pipeline.components) {
    auto other = formats::open_checkpoint(files, source.path);
    if (!other.ok()) return std::move(other).error().at(source.mark.text());
    LS_CHECK(replace_component(checkpoint, source, *std::move(other)));
  }
  return std::make_shared<const formats::Checkpoint>(std::move(checkpoint));
}

Result<DType> parse_load_dtype(const std::string& name) {
  struct Spelling {
    const char* name;
    DType dtype;
  };
  constexpr Spelling kSpellings[] = {
      {"auto", DType::invalid}, {"bf16", DType::BF16}, {"bfloat16", DType::BF16},
      {"f16", DType::F16},      {"fp16", DType::F16},  {"float16", DType::F16},
      {"half", DType::F16},     {"f32", DType::F32},   {"fp32", DType::F32},
      {"float32", DType::F32},
  };
  std::vector<std::string> names;
  for (const Spelling& spelling : kSpellings) {
    if (name == spelling.name) return spelling.dtype;
    names.emplace_back(spelling.name);
  }
  std::string hint = nearest(name, names);
  return Error{Code::invalid_config, "unknown dtype", "load.dtype",
               "found " + quoted(name) + ", expected auto, bf16, f16 or f32",
               hint.empty() ? "" : quoted(hint)};
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
  LS_TRY(options.dtype, parse_load_dtype(section.dtype));
  if (section.ring_nbytes != 0) options.ring_nbytes = section.ring_nbytes;
  options.threads = section.threads;
  options.place = section.place;
  for (const auto& [component, name] : section.place) {
    LS_TRY(plan::Target target, find_target(name));
    if (target.index >= 0) options.device_sm[name] = target.sm;
  }
  return options;
}

}  // namespace loadstone::load
