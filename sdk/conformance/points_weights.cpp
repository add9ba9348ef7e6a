#include <cmath>
#include <cstring>
#include <loadstone/plugin/floats.hpp>
#include <map>

#include "conformance/points.hpp"
#include "plugin/saving.hpp"

namespace loadstone::conformance {

namespace {

using plugin::LayerAnswer;

bool same_floats(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Any range of rows equals those rows of the whole; the raw basis folds to the same weight.
Status check_ranges(Context& context, const Sample& sample, const Produced& made,
                    const std::vector<float>& whole) {
  const uint64_t out = sample.layer.out, in = sample.layer.in;
  for (int round = 0; round < 4; ++round) {
    const auto group = static_cast<uint32_t>(context.random().below(sample.layer.groups));
    const uint64_t begin = context.random().below(out);
    const uint64_t count = 1 + context.random().below(out - begin);
    LS_TRY(const std::vector<float> rows,
           dequantize(sample.config, sample.view, sample.answer, made, group, begin, count));
    if (std::memcmp(rows.data(), whole.data() + (group * out + begin) * in,
                    rows.size() * sizeof(float)) != 0) {
      return sample.failed("found rows [" + std::to_string(begin) + ", +" + std::to_string(count) +
                           ") other than in the whole");
    }
    std::vector<float> scale;
    LS_TRY(std::vector<float> raw, dequantize(sample.config, sample.view, sample.answer, made,
                                              group, begin, count, &scale));
    for (size_t i = 0; i < raw.size() && !scale.empty(); ++i) raw[i] *= scale[i % in];
    for (size_t i = 0; i < raw.size(); ++i) {
      const float tolerance = scale.empty() ? 0.0f : std::fabs(rows[i]) * 0x1p-22f;
      if (!(std::fabs(raw[i] - rows[i]) <= tolerance)) {
        return sample.failed("found raw rows times the input scale other than the folded rows");
      }
    }
  }
  return {};
}

/// The layer as its saved form would be read back.
Result<LayerCase> saved_layer(const Sample& sample, const Produced& made) {
  const plugin::Method& method = sample.config.method();
  const ls_layer& view = sample.view.get();
  LS_TRY(const std::vector<plugin::SavedTensor> saved,
         plugin::ask_save(sample.config, view, sample.answer.work.note));
  LayerCase out = sample.layer;
  out.tensors.clear();
  out.title += " serialized";
  for (CasePart& part : out.parts) {
    part.file_begin = 0;  // a part's saved tensors hold that part alone
    part.file_total = part.out_count;
  }
  Arena arena;
  const ls_buffer* const* stored = buffers_of(arena, made);
  Random random(saved.size());
  for (uint64_t i = 0; i < saved.size(); ++i) {
    CaseTensor tensor{saved[i].name,
                      saved[i].part,
                      sample.layer.parts[saved[i].part].group,
                      static_cast<uint32_t>(saved[i].dtype),
                      saved[i].shape,
                      {}};
    Guarded bytes("saved \"" + saved[i].name + "\"", saved[i].nbytes, 1);
    for (uint64_t at = 0; at < saved[i].nbytes;) {  // in ranges of any size
      const uint64_t count = std::min(1 + random.below(997), saved[i].nbytes - at);
      const int32_t status = plugin::call_plugin([&] {
        return method.table().save_read(sample.config.handle(), &view, sample.answer.work.note,
                                        stored, made.stored.size(), i, at, count,
                                        bytes.data() + at);
      });
      LS_CHECK(plugin::check_call(status, method, "save_read", sample.title));
      at += count;
    }
    LS_CHECK(bytes.check());
    tensor.bytes.assign(bytes.data(), bytes.data() + bytes.nbytes());
    out.tensors.push_back(std::move(tensor));
  }
  for (size_t i = 0; i < sample.layer.tensors.size(); ++i) {
    const CaseTensor& tensor = sample.layer.tensors[i];
    if (tensor.name != "bias" || sample.answer.work.bias == LS_BIAS_BY_METHOD) continue;
    const CasePart& part = sample.layer.parts[tensor.part];
    CaseTensor bias = tensor;  // the core saves it, rows of this part alone
    const uint64_t item = tensor.bytes.size() / tensor.shape[0];
    bias.shape = {part.out_count};
    bias.bytes.assign(
        tensor.bytes.begin() + static_cast<ptrdiff_t>(part.file_begin * item),
        tensor.bytes.begin() + static_cast<ptrdiff_t>((part.file_begin + part.out_count) * item));
    out.tensors.push_back(std::move(bias));
  }
  return out;
}

/// Whether a file that holds the layer leaves its width to the method.
bool is_packed(const LayerCase& layer) {
  return std::any_of(layer.tensors.begin(), layer.tensors.end(), [](const CaseTensor& tensor) {
    const bool words = tensor.dtype == LS_DTYPE_U8 || tensor.dtype == LS_DTYPE_I32 ||
                       tensor.dtype == LS_DTYPE_U32 || tensor.dtype == LS_DTYPE_I64;
    return tensor.name == "weight_packed" || tensor.name == "qweight" ||
           (tensor.name == "weight" && words);
  });
}

/// Asks about a saved layer as a file shows it; the rest of `view` is as the host makes it then.
Result<LayerAnswer> ask_saved(const Sample& sample, const plugin::MethodConfig& config,
                              CaseView& view) {
  if (!is_packed(view.source())) return ask(config, view);
  LayerCase shown = view.source();
  shown.in = 0;
  CaseView unknown(shown);
  LS_TRY(LayerAnswer answer, ask(config, unknown));
  const uint32_t verdict = answer.work.verdict;
  const bool planned = verdict == LS_VERDICT_QUANTIZE || verdict == LS_VERDICT_DECODE;
  if (planned && answer.work.in != sample.layer.in) {
    return sample.failed("found width " + std::to_string(answer.work.in) +
                         " told of the packed weight (work.in), expected " +
                         std::to_string(sample.layer.in));
  }
  LS_CHECK(ask(config, view));  // values asked for stay with the view that is produced
  return answer;
}

/// Saves, and hands the saved layer to `body`.
Result<std::string> with_saved(
    Context& context,
    const std::function<Status(const Sample&, const Produced&, const LayerCase&)>& body) {
  if (context.method().table().save_layer == nullptr) {
    return std::string("the method has no serialized form");
  }
  Status ran = for_each_sample(context, ordinary_recipes(), [&](const Sample& sample) -> Status {
    LS_TRY(const Produced made, produce(sample.config, sample.view, sample.answer));
    LS_TRY(const LayerCase saved, saved_layer(sample, made));
    return body(sample, made, saved);
  });
  if (!ran.ok()) return std::move(ran).error();
  return std::string(context.cases == 0 ? "quantizes none of the kit's float layers" : "");
}

/// The configuration that a saved model's declaration gives.
Result<std::shared_ptr<const plugin::MethodConfig>> declared_config(const Sample& sample) {
  const plugin::Method& method = sample.config.method();
  config::MethodChoice choice = sample.config.choice();
  if (method.table().save_model == nullptr) return plugin::MethodConfig::make(method, choice);
  LS_TRY(const Node declaration, plugin::ask_save_model(sample.config));
  if (!declaration.is_map()) return sample.failed("found a declaration that is no map");
  for (const config::Field& field : method.schema().fields) {
    const Node* value = declaration.find(field.name);
    if (value != nullptr) choice.fields[field.name] = {*value, config::From::checkpoint};
  }
  return plugin::MethodConfig::make(method, choice);
}

/// The plain floats of a serialized layer are its dequantized weight, rounded.
Status check_decoded(const Sample& sample, const Produced& made, const plugin::MethodConfig& config,
                     LayerCase wanted) {
  wanted.want = LS_WANT_DECODE;
  CaseView view(wanted);
  LS_TRY(const LayerAnswer answer, ask_saved(sample, config, view));
  if (answer.work.verdict == LS_VERDICT_UNSUPPORTED) return {};
  if (answer.work.verdict != LS_VERDICT_DECODE || answer.stored.size() != 1 ||
      answer.stored_names[0] != "weight" || answer.stored[0].dtype != wanted.load_dtype) {
    return sample.failed("found no plan for one \"weight\" of the load dtype");
  }
  LS_TRY(const Produced decoded, produce(config, view, answer));
  LS_TRY(const std::vector<float> weight,
         dequantize_all(sample.config, sample.view, sample.answer, made));
  std::vector<std::byte> expected(weight.size() * sdk::float_nbytes(wanted.load_dtype));
  sdk::narrow(wanted.load_dtype, weight.data(), weight.size(), expected.data());
  const auto found = decoded.stored[0].bytes();
  if (found.size() == expected.size() && std::equal(found.begin(), found.end(), expected.begin())) {
    return {};
  }
  return sample.failed("found floats other than the dequantized weight, rounded");
}

}  // namespace

Result<std::string> point_dequantize(Context& context) {
  if (context.method().table().dequantize == nullptr) return std::string("no dequantize");
  bool stated = false;
  Status ran = for_each_sample(context, ordinary_recipes(), [&](const Sample& sample) -> Status {
    LS_TRY(const Produced made, produce(sample.config, sample.view, sample.answer));
    LS_TRY(const std::vector<float> weight,
           dequantize_all(sample.config, sample.view, sample.answer, made));
    LS_CHECK(check_ranges(context, sample, made, weight));
    stated = true;
    if (sample.layer.truth.empty()) return {};  // of a checkpoint: its truth is elsewhere
    const double error = sample.answer.work.weight_error;
    if (error == 0) return sample.failed("found no weight_error in the plan, expected a bound");
    const double limit = std::max(error * sample.layer.max_abs(), 0x1p-32);
    for (size_t i = 0; i < weight.size(); ++i) {
      const double off = std::fabs(double{weight[i]} - double{sample.layer.truth[i]});
      if (!(off <= limit)) {
        return sample.failed("found element " + std::to_string(i) + " off by " + text_of(off) +
                             ", expected at most " + text_of(limit) +
                             " (weight_error times the largest weight)");
      }
    }
    return {};
  });
  if (!ran.ok()) return std::move(ran).error();
  return std::string(stated ? "" : "quantizes none of the kit's float layers");
}

Result<std::string> point_serialized(Context& context) {
  return with_saved(
      context, [&](const Sample& sample, const Produced& made, const LayerCase& saved) -> Status {
        LS_TRY(const auto config, declared_config(sample));
        CaseView view(saved);
        LS_TRY(const LayerAnswer answer, ask_saved(sample, *config, view));
        if (answer.work.verdict != LS_VERDICT_QUANTIZE) {
          return sample.failed("found verdict " + std::to_string(answer.work.verdict) + " (" +
                               answer.reason + ") for the saved layer");
        }
        Feeding feeding;
        feeding.cut = Cut::random;
        feeding.threads = 2;
        feeding.awkward = true;
        LS_TRY(const Produced loaded, produce(*config, view, answer, feeding));
        if (context.method().table().dequantize == nullptr) return {};
        LS_TRY(const std::vector<float> before,
               dequantize_all(sample.config, sample.view, sample.answer, made));
        LS_TRY(const std::vector<float> after, dequantize_all(*config, view, answer, loaded));
        if (same_floats(before, after)) return {};
        return sample.failed("found other weights after saving and loading");
      });
}

Result<std::string> point_decode(Context& context) {
  // Floats are floats already.
  for (const NamedConfig& named : context.configs()) {
    LayerCase layer = make_case(ordinary_recipes().front(), context.random());
    layer.want = LS_WANT_DECODE;
    CaseView view(layer);
    auto answer = ask(*named.config, view);
    if (answer.ok() && (answer->work.verdict == LS_VERDICT_QUANTIZE ||
                        answer->work.verdict == LS_VERDICT_DECODE)) {
      return Error{Code::internal, "", named.title + ", " + layer.title,
                   "found verdict " + std::to_string(answer->work.verdict) +
                       " for floats to decode, expected keep",
                   ""};
    }
  }
  Status ran = for_each_sample(context, ordinary_recipes(), [&](const Sample& sample) -> Status {
    LS_TRY(const Produced made, produce(sample.config, sample.view, sample.answer));
    const plugin::MethodConfig* config = &sample.config;
    std::shared_ptr<const plugin::MethodConfig> declared;
    LayerCase wanted = sample.layer;
    if (!sample.layer.truth.empty()) {  // online: the saved form is what there is to decode
      if (context.method().table().save_layer == nullptr) return {};
      LS_TRY(wanted, saved_layer(sample, made));
      LS_TRY(declared, declared_config(sample));
      config = declared.get();
    }
    return check_decoded(sample, made, *config, std::move(wanted));
  });
  if (!ran.ok()) return std::move(ran).error();
  return std::string(context.cases == 0 ? "quantizes none of the kit's float layers" : "");
}

Result<std::string> point_repack(Context& context) {
  if (context.method().table().repack == nullptr) return std::string("no repack");
  uint64_t wishes = 0;
  Status ran = for_each_sample(context, ordinary_recipes(), [&](const Sample& sample) -> Status {
    LS_TRY(const Produced made, produce(sample.config, sample.view, sample.answer));
    const plugin::Method& method = sample.config.method();
    for (uint64_t wish = 0; wish < sample.answer.repacks.size(); ++wish, ++wishes) {
      const ls_repack& repack = sample.answer.repacks[wish];
      const Guarded& canonical = made.stored[repack.stored];
      Guarded packed("packed", repack.nbytes, repack.align == 0 ? 64 : repack.align);
      Guarded back("restored", canonical.nbytes());
      const auto run = [&](uint32_t inverse, const Guarded& plain) -> Status {
        Arena arena;
        const auto buffer = [&](const Guarded& memory) {
          ls_buffer out{};
          out.struct_size = sizeof out;
          out.place = LS_PLACE_HOST;
          out.at = memory.data();
          out.nbytes = memory.nbytes();
          return arena.put(out);
        };
        const ls_buffer* from = buffer(plain);
        const ls_buffer* to = buffer(packed);
        const int32_t status = plugin::call_plugin([&] {
          return method.table().repack(sample.config.handle(), &sample.view.get(), wish, inverse,
                                       from, to, nullptr);
        });
        return plugin::check_call(status, method, "repack", sample.title);
      };
      LS_CHECK(run(0, canonical));
      LS_CHECK(run(1, back));
      for (const Guarded* memory :
           {&canonical, static_cast<const Guarded*>(&packed), static_cast<const Guarded*>(&back)}) {
        LS_CHECK(memory->check());
      }
      const auto a = canonical.bytes(), b = back.bytes();
      if (!std::equal(a.begin(), a.end(), b.begin())) {
        return sample.failed("found other bytes after packing and back");
      }
    }
    return {};
  });
  if (!ran.ok()) return std::move(ran).error();
  return std::string(wishes == 0 ? "no repack wishes on this target" : "");
}

}  // namespace loadstone::conformance
