#include "load/dequantize.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>

#include "base/checked.hpp"
#include "base/text.hpp"
#include "formats/output_file.hpp"
#include "load/batch.hpp"
#include "load/cast.hpp"
#include "load/dequantize_outputs.hpp"
#include "load/rows.hpp"

namespace loadstone::load {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kBufferNbytes = 8u << 20;  // of float32 rows on their way out
constexpr uint64_t kPieceNbytes = 1u << 20;   // of a kept tensor

/// The folder of the outputs; one that was made here goes away again unless it is kept.
class OutputFolder {
 public:
  static Result<OutputFolder> open(const std::string& path) {
    OutputFolder folder;
    std::error_code code;
    folder.made_ = fs::create_directory(path, code);
    if (!code && !fs::is_directory(path, code)) {
      code = std::make_error_code(std::errc::not_a_directory);
    }
    if (code) {
      return Error{Code::invalid_argument, "output folder can't be written", escaped(path),
                   code.message(), ""};
    }
    folder.path_ = path;
    return folder;
  }
  OutputFolder(OutputFolder&& other) noexcept
      : path_(std::move(other.path_)), made_(std::exchange(other.made_, false)) {}
  OutputFolder& operator=(OutputFolder&&) = delete;
  ~OutputFolder() {
    std::error_code ignored;
    if (made_) fs::remove(path_, ignored);  // only if it is empty
  }
  void keep() { made_ = false; }
  std::string file(const std::string& name) const { return (fs::path(path_) / name).string(); }

 private:
  OutputFolder() = default;
  std::string path_;
  bool made_ = false;
};

class Writing {
 public:
  Writing(const plan::Plan& plan, const DequantizeOptions& options, const LoadControl& control)
      : plan_(plan),
        options_(options),
        control_(control),
        batch_(plan),
        pool_(plan.options.threads),
        rows_(kBufferNbytes / sizeof(float)) {}

  Result<DequantizeReport> run() {
    LS_TRY(std::vector<OutputListing> listings, list_outputs(plan_, options_.fold));
    for (const OutputListing& listing : listings) {
      for (const OutputTensor& tensor : listing.tensors) total_nbytes_ += nbytes_of(tensor);
    }
    LS_TRY(OutputFolder folder, OutputFolder::open(options_.output));
    std::vector<formats::SafetensorsWriter> writers;
    for (const OutputListing& listing : listings) {
      if (listing.tensors.empty()) continue;
      LS_TRY(auto writer, open_file(folder.file(listing.file), listing));
      for (size_t i = 0; i < listing.tensors.size(); ++i) {
        LS_CHECK(write(listing, i, writer));
      }
      writers.push_back(std::move(writer));
    }
    LS_CHECK(formats::check_unchanged(*plan_.checkpoint));
    for (formats::SafetensorsWriter& writer : writers) LS_CHECK(writer.finish());
    folder.keep();
    return std::move(report_);
  }

 private:
  static uint64_t nbytes_of(const OutputTensor& tensor) {
    return plan::tensor_nbytes(tensor.spec.dtype, tensor.spec.shape).value_or(0);
  }

  Result<formats::SafetensorsWriter> open_file(const std::string& path,
                                               const OutputListing& listing) {
    DequantizedFile file{path, listing.tensors.size(), 0, 0};
    std::vector<formats::TensorSpec> specs;
    for (const OutputTensor& tensor : listing.tensors) {
      specs.push_back(tensor.spec);
      file.weights += tensor.produced ? 1 : 0;
      file.nbytes += nbytes_of(tensor);
    }
    report_.files.push_back(std::move(file));
    return formats::SafetensorsWriter::create(path, specs);
  }

  Status write(const OutputListing& listing, size_t index, formats::SafetensorsWriter& writer) {
    const OutputTensor& tensor = listing.tensors[index];
    if (tensor.produced) {
      std::vector<uint32_t> wanted;
      for (size_t i = index; i < listing.tensors.size() && wanted.size() < 256; ++i) {
        const OutputTensor& next = listing.tensors[i];
        if (next.produced && (wanted.empty() || wanted.back() != next.layer)) {
          wanted.push_back(next.layer);
        }
      }
      LS_CHECK(batch_.need(wanted, control_));
      return write_produced(tensor, writer);
    }
    return tensor.spec.dtype == DType::F32 ? write_floats(tensor, writer)
                                           : write_bytes(tensor, writer);
  }

  Status write_produced(const OutputTensor& tensor, formats::SafetensorsWriter& writer) {
    const plan::LayerPlan& layer = plan_.layers[tensor.layer];
    const graph::Layer& shape = plan_.layer_of(layer);
    std::vector<const std::byte*> stored;
    for (uint32_t i = 0; i < layer.stored.size(); ++i) stored.push_back(batch_.at(tensor.layer, i));
    LS_TRY(WeightRows weight, WeightRows::open(plan_, layer, std::move(stored)));
    const graph::Part& part = shape.parts[tensor.part];
    bool stacked = shape.groups > 1 && shape.parts.size() == 1;
    uint32_t first = stacked ? 0 : part.group, last = stacked ? shape.groups : part.group + 1;
    uint64_t rows = std::max<uint64_t>(part.out_count, 1);
    if (rows * weight.columns() * (last - first) * sizeof(float) != nbytes_of(tensor)) {
      return Error{Code::internal, "dequantized weight has another size", escaped(shape.path),
                   "found " + std::to_string(rows) + " rows of " +
                       std::to_string(weight.columns()) + " for " +
                       loadstone::quoted(tensor.spec.name),
                   ""};
    }
    for (uint32_t group = first; group < last; ++group) {
      LS_TRY(bool scaled, write_rows(weight, group, part.out_begin, rows, writer));
      bool written = std::any_of(shape.tensors.begin(), shape.tensors.end(),
                                 [](const auto& one) { return is_input_factor(one.suffix); });
      if (!scaled || written || options_.fold) continue;
      return Error{Code::unsupported, "input scale has no tensor of its own", escaped(shape.path),
                   "found one computed by method " + loadstone::quoted(layer.method), "--fold"};
    }
    return {};
  }

  Result<bool> write_rows(const WeightRows& weight, uint32_t group, uint64_t begin, uint64_t rows,
                          formats::SafetensorsWriter& writer) {
    uint64_t columns = std::max<uint64_t>(weight.columns(), 1);
    if (rows_.size() < columns) rows_.resize(columns);
    uint64_t step = rows_.size() / columns;
    bool scaled = false;
    for (uint64_t done = 0; done < rows; done += step) {
      uint64_t count = std::min(step, rows - done);
      std::span<float> out(rows_.data(), count * columns);
      LS_TRY(bool has, weight.read(group, begin + done, count, options_.fold, out, pool_));
      scaled |= has;
      LS_CHECK(append(std::as_bytes(out), writer));
    }
    return scaled;
  }

  /// A kept tensor widened, times its input factors where they are folded.
  Status write_floats(const OutputTensor& tensor, formats::SafetensorsWriter& writer) {
    const formats::TensorEntry& entry = *tensor.entry;
    std::vector<float> factors;
    if (tensor.factors != nullptr) {
      LS_TRY(factors, all_floats(*tensor.factors));
    }
    uint64_t width = layout_of(entry.dtype)->block_nbytes;
    uint64_t elems = entry.nbytes / width, step = kPieceNbytes / width;
    piece_.resize(kPieceNbytes);
    if (rows_.size() < step) rows_.resize(step);
    for (uint64_t done = 0; done < elems; done += step) {
      uint64_t count = std::min(step, elems - done);
      LS_CHECK(read(entry, done * width, count * width));
      if (!cast(piece_.data(), entry.dtype, reinterpret_cast<std::byte*>(rows_.data()), DType::F32,
                count)) {
        return Error{Code::invalid_checkpoint, "value out of range of F32", escaped(entry.name),
                     "found " + std::string(name_of(entry.dtype)) + " beyond it", ""};
      }
      for (uint64_t i = 0; i < count && !factors.empty(); ++i) {
        rows_[i] *= factors[(done + i) % factors.size()];
      }
      LS_CHECK(append(std::as_bytes(std::span(rows_.data(), count)), writer));
    }
    return {};
  }

  Result<std::vector<float>> all_floats(const formats::TensorEntry& entry) {
    uint64_t width = layout_of(entry.dtype)->block_nbytes;
    std::vector<float> out(entry.nbytes / width);
    piece_.resize(std::max<uint64_t>(entry.nbytes, kPieceNbytes));
    LS_CHECK(read(entry, 0, entry.nbytes));
    cast(piece_.data(), entry.dtype, reinterpret_cast<std::byte*>(out.data()), DType::F32,
         out.size());
    return out;
  }

  Status write_bytes(const OutputTensor& tensor, formats::SafetensorsWriter& writer) {
    piece_.resize(kPieceNbytes);
    for (uint64_t done = 0; done < tensor.entry->nbytes; done += kPieceNbytes) {
      uint64_t count = std::min(kPieceNbytes, tensor.entry->nbytes - done);
      LS_CHECK(read(*tensor.entry, done, count));
      LS_CHECK(append({piece_.data(), count}, writer));
    }
    return {};
  }

  Status read(const formats::TensorEntry& entry, uint64_t offset, uint64_t nbytes) {
    const File& file = *plan_.checkpoint->files[entry.file].file;
    return file.read_exact({piece_.data(), nbytes}, entry.offset + offset);
  }

  Status append(std::span<const std::byte> bytes, formats::SafetensorsWriter& writer) {
    if (control_.cancel != nullptr && control_.cancel->cancelled()) {
      return Error{Code::cancelled, "dequantize cancelled", "", "", ""};
    }
    LS_CHECK(writer.append(bytes));
    done_nbytes_ += bytes.size();
    if (control_.progress) control_.progress({"dequantize", done_nbytes_, total_nbytes_, "bytes"});
    return {};
  }

  const plan::Plan& plan_;
  const DequantizeOptions& options_;
  const LoadControl& control_;
  Batch batch_;
  ThreadPool pool_;
  std::vector<float> rows_;
  std::vector<std::byte> piece_;
  DequantizeReport report_;
  uint64_t done_nbytes_ = 0, total_nbytes_ = 0;
};

}  // namespace

Result<DequantizeReport> dequantize(std::shared_ptr<const formats::Checkpoint> checkpoint,
                                    graph::Graph graph, plugin::Registry& registry,
                                    const DequantizeOptions& options, const LoadControl& control) {
  auto start = std::chrono::steady_clock::now();
  plan::LoadOptions load_options;
  load_options.threads = options.threads;
  load_options.dtype = DType::F32;  // of what a method can only decode
  load_options.repack = false;
  load_options.apart = true;
  load_options.as_stored = true;
  LS_TRY(plan::Plan plan,
         plan::make_plan(std::move(checkpoint), std::move(graph), {}, registry, {}, load_options));
  LS_TRY(DequantizeReport report, Writing(plan, options, control).run());
  report.notes = plan.notes;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace loadstone::load
