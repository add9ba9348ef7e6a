#include "load/quantize.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>

#include "base/text.hpp"
#include "formats/model_files.hpp"
#include "formats/output_folder.hpp"
#include "load/batch.hpp"
#include "load/quantize_outputs.hpp"

namespace loadstone::load {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kPieceNbytes = 4u << 20;
constexpr int kMaxDepth = 8;  // of folders in a model

bool is_weights(const std::string& name) {
  for (const char* ending : {".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json",
                             ".gguf", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx"}) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

/// An output at, above or inside what is read would destroy or devour it.
Status check_apart(const formats::Checkpoint& checkpoint, const std::string& output) {
  std::error_code code;
  const std::string target = fs::weakly_canonical(output, code).string();
  const auto inside = [](const std::string& inner, std::string outer) {
    while (outer.size() > 1 && outer.back() == '/') outer.pop_back();
    return inner == outer || inner.starts_with(outer == "/" ? outer : outer + "/");
  };
  std::vector<std::string> sources = {checkpoint.root};
  for (const formats::FileEntry& entry : checkpoint.files) {
    LS_TRY(std::string path, entry.file->resolved());
    sources.push_back(fs::path(path).parent_path().string());
  }
  for (const std::string& source : sources) {
    if (code || inside(target, source) || inside(source, target)) {
      return Error{Code::invalid_argument, "output folder rejected", escaped(output),
                   "found the model that is read, expected a place apart from it", ""};
    }
  }
  return {};
}

class Writing {
 public:
  Writing(const plan::Plan& plan, std::vector<SavedComponent> saved, formats::OutputFolder& folder,
          const LoadControl& control)
      : plan_(plan),
        checkpoint_(*plan.checkpoint),
        saved_(std::move(saved)),
        folder_(folder),
        control_(control),
        files_(system_files(), formats::Boundary::of_folder(checkpoint_.root)),
        batch_(plan),
        piece_(kPieceNbytes) {}

  Result<QuantizeReport> run() {
    for (const SavedComponent& one : saved_) {
      if (!one.declaration.is_null()) fresh_.insert(source_of(one).folder);
      for (const SavedFile& file : one.files) {
        for (const SavedOutput& tensor : file.tensors) total_nbytes_ += tensor.nbytes;
      }
    }
    LS_CHECK(copy_small(checkpoint_.root, "", 0));
    for (const SavedComponent& one : saved_) {
      LS_CHECK(folder_.make(source_of(one).folder));
      LS_CHECK(one.files.empty() ? copy_weights(one) : write(one));
    }
    LS_CHECK(formats::check_unchanged(checkpoint_));
    return std::move(report_);
  }

 private:
  const formats::Component& source_of(const SavedComponent& one) const {
    return checkpoint_.components[one.component];
  }
  std::string staged(const std::string& folder, const std::string& name) const {
    return (fs::path(folder_.staging()) / folder / name).string();
  }

  Status copy_small(const std::string& from, const std::string& folder, int depth) {
    LS_TRY(const auto entries, files_.system().list(from));
    LS_CHECK(folder_.make(folder));
    for (const DirectoryEntry& entry : entries) {
      if (entry.name.starts_with('.')) continue;
      const std::string path = formats::join_path(from, entry.name);
      if (files_.system().is_directory(path)) {
        if (depth >= kMaxDepth) continue;
        LS_CHECK(copy_small(path, (fs::path(folder) / entry.name).string(), depth + 1));
      } else if (!is_weights(entry.name) &&
                 !(entry.name == "config.json" && fresh_.contains(folder))) {
        LS_TRY(const auto file, files_.open(path));
        LS_CHECK(copy(*file, staged(folder, entry.name)));
      }
    }
    return {};
  }

  Status copy_weights(const SavedComponent& one) {
    const formats::Component& source = source_of(one);
    std::set<uint32_t> used;
    QuantizedComponent report{source.name, "", 0, 0, 0};
    for (const formats::TensorEntry& tensor : source.tensors) {
      used.insert(tensor.file);
      report.nbytes_before += tensor.nbytes;
    }
    report.nbytes_after = report.nbytes_before;
    for (uint32_t index : used) {
      const formats::FileEntry& file = checkpoint_.files[index];
      LS_CHECK(copy(*file.file, staged(source.folder, formats::base_name(file.path))));
    }
    const std::string index = index_of(source);
    if (!index.empty()) {
      LS_TRY(const auto file, files_.system().open(index));
      LS_CHECK(copy(*file, staged(source.folder, formats::base_name(index))));
    }
    report_.components.push_back(std::move(report));
    return {};
  }

  /// The index of a component's shards, "" if it has none.
  std::string index_of(const formats::Component& source) const {
    const auto entries = files_.system().list(source.source);
    if (!entries.ok()) return "";
    for (const DirectoryEntry& entry : *entries) {
      if (entry.name.ends_with(".safetensors.index.json")) {
        return formats::join_path(source.source, entry.name);
      }
    }
    return "";
  }

  Status copy(const File& file, const std::string& to) {
    LS_TRY(const FileIdentity identity, file.identity());
    LS_TRY(formats::OutputFile out, formats::OutputFile::create(to));
    for (uint64_t done = 0; done < identity.nbytes; done += kPieceNbytes) {
      const std::span<std::byte> piece(piece_.data(),
                                       std::min(kPieceNbytes, identity.nbytes - done));
      LS_CHECK(check_cancelled());
      LS_CHECK(file.read_exact(piece, done));
      LS_CHECK(out.write(piece));
    }
    return out.commit();
  }

  Status write(const SavedComponent& one) {
    const formats::Component& source = source_of(one);
    QuantizedComponent report{source.name, one.method, one.layers, 0, 0};
    for (const formats::TensorEntry& tensor : source.tensors) report.nbytes_before += tensor.nbytes;
    Node weight_map = Node::of_map({});
    for (const SavedFile& file : one.files) {
      std::vector<formats::TensorSpec> specs;
      for (const SavedOutput& tensor : file.tensors) {
        specs.push_back(tensor.spec);
        report.nbytes_after += tensor.nbytes;
        weight_map.entries().emplace_back(tensor.spec.name, Node::of_text(file.name));
      }
      const std::string path = staged(source.folder, file.name);
      if (!one.gguf.empty()) {
        LS_TRY(auto writer, formats::GgufWriter::create(path, specs, one.gguf));
        LS_CHECK(write(file, writer));
      } else {
        LS_TRY(auto writer, formats::SafetensorsWriter::create(path, specs));
        LS_CHECK(write(file, writer));
      }
    }
    const std::string index = index_of(source);
    if (!index.empty() && one.gguf.empty()) {
      Node size = Node::of_integer(static_cast<int64_t>(report.nbytes_after));
      LS_CHECK(
          write_json(Node::of_map({{"metadata", Node::of_map({{"total_size", std::move(size)}})},
                                   {"weight_map", std::move(weight_map)}}),
                     staged(source.folder, formats::base_name(index))));
    }
    report_.components.push_back(std::move(report));
    return one.declaration.is_null() ? Status() : write_config(one);
  }

  /// config.json with the declaration; components that share a folder must agree on it.
  Status write_config(const SavedComponent& one) {
    const formats::Component& source = source_of(one);
    const auto [known, fresh] = declared_.emplace(source.folder, one.declaration);
    if (!fresh && !(known->second == one.declaration)) {
      return Error{
          Code::unsupported, "components of one folder have two methods", escaped(source.name),
          "found " + one.declaration.to_json() + ", expected " + known->second.to_json(), ""};
    }
    Node config = source.config.is_map() ? source.config : Node::of_map({});
    config.entries().emplace_back("quantization_config", one.declaration);
    return write_json(config, staged(source.folder, "config.json"));
  }

  static Status write_json(const Node& node, const std::string& path) {
    const std::string text = node.to_json(2) + "\n";
    return formats::write_file(path, std::as_bytes(std::span(text)));
  }

  template <typename Writer>
  Status write(const SavedFile& file, Writer& writer) {
    for (size_t i = 0; i < file.tensors.size(); ++i) {
      for (const SavedPiece& piece : file.tensors[i].pieces) {
        if (piece.entry == nullptr) LS_CHECK(load_from(file, i, piece.layer));
        LS_CHECK(write(piece, writer));
      }
    }
    return writer.finish();
  }

  template <typename Writer>
  Status write(const SavedPiece& piece, Writer& writer) {
    for (uint64_t done = 0; done < piece.nbytes; done += kPieceNbytes) {
      const std::span<std::byte> bytes(piece_.data(), std::min(kPieceNbytes, piece.nbytes - done));
      LS_CHECK(check_cancelled());
      if (piece.entry != nullptr) {
        const File& source = *checkpoint_.files[piece.entry->file].file;
        LS_CHECK(source.read_exact(bytes, piece.entry->offset + piece.offset + done));
      } else {
        LS_CHECK(read_saved(piece, piece.offset + done, bytes));
      }
      LS_CHECK(writer.append(bytes));
      done_nbytes_ += bytes.size();
      if (control_.progress) control_.progress({"quantize", done_nbytes_, total_nbytes_, "bytes"});
    }
    return {};
  }

  /// Layer plan `first` and those that the tensors from `index` on need next.
  Status load_from(const SavedFile& file, size_t index, uint32_t first) {
    std::vector<uint32_t> wanted = {first};
    for (size_t i = index; i < file.tensors.size() && wanted.size() < 256; ++i) {
      for (const SavedPiece& next : file.tensors[i].pieces) {
        const bool known = std::find(wanted.begin(), wanted.end(), next.layer) != wanted.end();
        if (next.entry == nullptr && !known) wanted.push_back(next.layer);
      }
    }
    return batch_.need(wanted, control_);
  }

  Status read_saved(const SavedPiece& piece, uint64_t offset, std::span<std::byte> out) {
    const plan::LayerPlan& layer = plan_.layers[piece.layer];
    std::vector<ls_buffer> buffers(layer.method_stored);
    std::vector<const ls_buffer*> pointers;
    for (uint32_t i = 0; i < layer.method_stored; ++i) {
      buffers[i].struct_size = sizeof(ls_buffer);
      buffers[i].place = LS_PLACE_HOST;
      buffers[i].at = batch_.at(piece.layer, i);
      buffers[i].nbytes = layer.stored[i].nbytes;
      pointers.push_back(&buffers[i]);
    }
    const plan::LayerView view(plan_, layer);
    const plugin::MethodConfig& config = *layer.config;
    const int32_t status = plugin::call_plugin([&] {
      return config.method().table().save_read(config.handle(), &view.get(), layer.note,
                                               pointers.data(), pointers.size(), piece.index,
                                               offset, out.size(), out.data());
    });
    return plugin::check_call(status, config.method(), "save_read", plan_.layer_of(layer).path);
  }

  Status check_cancelled() const {
    if (control_.cancel == nullptr || !control_.cancel->cancelled()) return {};
    return Error{Code::cancelled, "quantize cancelled", "", "", ""};
  }

  const plan::Plan& plan_;
  const formats::Checkpoint& checkpoint_;
  std::vector<SavedComponent> saved_;
  formats::OutputFolder& folder_;
  const LoadControl& control_;
  formats::ModelFiles files_;
  Batch batch_;
  std::vector<std::byte> piece_;
  std::set<std::string> fresh_;           // folders whose config.json is written anew
  std::map<std::string, Node> declared_;  // by folder
  QuantizeReport report_;
  uint64_t done_nbytes_ = 0, total_nbytes_ = 0;
};

}  // namespace

Result<QuantizeReport> quantize(std::shared_ptr<const formats::Checkpoint> checkpoint,
                                graph::Graph graph, const config::QuantConfig& quantization,
                                plugin::Registry& registry, const QuantizeOptions& options,
                                const LoadControl& control) {
  auto start = std::chrono::steady_clock::now();
  if (checkpoint->layout == formats::Layout::single_file) {
    return Error{Code::unsupported, "model can't be written", escaped(checkpoint->path),
                 "found a single file, expected a model's folder with config.json", ""};
  }
  LS_CHECK(check_apart(*checkpoint, options.output));
  plan::LoadOptions load_options;
  load_options.repack = false;
  load_options.as_stored = true;
  LS_TRY(plan::Plan plan, plan::make_plan(std::move(checkpoint), std::move(graph), quantization,
                                          registry, {}, load_options));
  LS_TRY(std::vector<SavedComponent> saved, list_saved(plan));
  if (std::all_of(saved.begin(), saved.end(), [](const auto& one) { return one.layers == 0; })) {
    return Error{Code::invalid_config, "nothing to quantize", escaped(plan.checkpoint->path),
                 "found no layer that a method would quantize, expected at least one", ""};
  }
  LS_TRY(formats::OutputFolder folder,
         formats::OutputFolder::create(options.output, options.overwrite));
  LS_TRY(QuantizeReport report, Writing(plan, std::move(saved), folder, control).run());
  LS_CHECK(folder.commit());
  report.notes = plan.notes;
  for (const std::string& other : folder.others()) {
    report.notes.push_back("left by an interrupted run, or in use by another: " + escaped(other));
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace loadstone::load
