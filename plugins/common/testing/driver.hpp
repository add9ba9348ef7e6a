// Test side only: a small host that drives a plugin's shared library through the C interface:
// configure, plan, produce from random cuttings, dequantize, apply. Independent of the core.
#pragma once

#include <dlfcn.h>

#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>

#include "common/ggml/types.hpp"
#include "common/numerics/floats.hpp"
#include "common/testing/declared.hpp"
#include "common/testing/host.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common::testing {

/// What a call of the plugin failed with.
struct Refusal : std::runtime_error {
  Refusal(int32_t code, const std::string& text) : std::runtime_error(text), status(code) {}
  int32_t status;
};

/// A layer as the host shows it, with its tensors' bytes.
class TestLayer {
 public:
  struct Source {
    std::string name;
    uint32_t dtype, part;
    std::vector<uint64_t> shape;
    std::vector<char> bytes;
  };

  uint32_t kind = LS_KIND_LINEAR, load_dtype = LS_DTYPE_BF16, want = LS_WANT_QUANTIZE, groups = 1;
  uint64_t out = 0, in = 0;
  std::string path = "blocks.0.linear";

  void part(const std::string& name, uint64_t out_begin, uint64_t count, uint32_t group = 0,
            uint64_t file_begin = 0, uint64_t file_total = 0) {
    part_names_.push_back(std::make_unique<std::string>(name));
    ls_part one = sdk::make<ls_part>();
    one.name = part_names_.back()->c_str();
    one.group = group;
    one.out_begin = out_begin;
    one.out_count = count;
    one.file_begin = file_begin;
    one.file_total = file_total == 0 ? count : file_total;
    parts_.push_back(one);
  }
  void tensor(const std::string& name, uint32_t dtype, std::vector<uint64_t> shape,
              std::vector<char> bytes, uint32_t part = 0) {
    sources_.push_back({name, dtype, part, std::move(shape), std::move(bytes)});
  }
  template <typename T>
  void tensor(const std::string& name, uint32_t dtype, std::vector<uint64_t> shape,
              const std::vector<T>& values, uint32_t part = 0) {
    std::vector<char> bytes(values.size() * sizeof(T));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    tensor(name, dtype, std::move(shape), std::move(bytes), part);
  }
  /// A tensor of an oracle file, under another name.
  void tensor(const std::string& name, const Tensor& from, uint32_t part = 0) {
    tensor(name, dtype_of(from.dtype), from.shape, from.bytes, part);
  }
  std::vector<Source>& sources() { return sources_; }
  const std::vector<ls_part>& parts() const { return parts_; }

  static uint32_t dtype_of(const std::string& name) {
    static const std::map<std::string, uint32_t> known = {
        {"F32", LS_DTYPE_F32},        {"BF16", LS_DTYPE_BF16},       {"F16", LS_DTYPE_F16},
        {"U8", LS_DTYPE_U8},          {"I8", LS_DTYPE_I8},           {"I32", LS_DTYPE_I32},
        {"I64", LS_DTYPE_I64},        {"F8_E4M3", LS_DTYPE_F8_E4M3}, {"F8_E5M2", LS_DTYPE_F8_E5M2},
        {"F8_E8M0", LS_DTYPE_F8_E8M0}};
    return known.at(name);
  }

  /// Valid until the layer changes.
  const ls_layer* view() {
    tensors_.clear();
    tensor_pointers_.clear();
    part_pointers_.clear();
    for (const Source& source : sources_) {
      ls_tensor one = sdk::make<ls_tensor>();
      one.dtype = source.dtype;
      one.rank = static_cast<uint32_t>(source.shape.size());
      one.part = source.part;
      one.group = parts_.at(source.part).group;
      std::fill(one.shape, one.shape + LS_MAX_RANK, uint64_t{1});
      std::copy(source.shape.begin(), source.shape.end(), one.shape);
      one.nbytes = source.bytes.size();
      uint64_t rows = 1;
      for (size_t i = 0; i + 1 < source.shape.size(); ++i) rows *= source.shape[i];
      one.row_nbytes = rows == 0 ? 0 : one.nbytes / rows;
      one.name = source.name.c_str();
      one.value = with_values_ ? source.bytes.data() : nullptr;
      tensors_.push_back(one);
    }
    for (const ls_tensor& one : tensors_) tensor_pointers_.push_back(&one);
    for (const ls_part& one : parts_) part_pointers_.push_back(&one);
    layer_ = sdk::make<ls_layer>();
    layer_.kind = kind;
    layer_.load_dtype = load_dtype;
    layer_.want = want;
    layer_.groups = groups;
    layer_.component = "transformer";
    layer_.path = path.c_str();
    layer_.role = "";
    layer_.out = out;
    layer_.in = in;
    layer_.parts = part_pointers_.data();
    layer_.part_count = part_pointers_.size();
    layer_.tensors = tensor_pointers_.data();
    layer_.tensor_count = tensor_pointers_.size();
    return &layer_;
  }
  void show_values() { with_values_ = true; }

 private:
  std::vector<std::unique_ptr<std::string>> part_names_;
  std::vector<ls_part> parts_;
  std::vector<Source> sources_;
  std::vector<ls_tensor> tensors_;
  std::vector<const ls_tensor*> tensor_pointers_;
  std::vector<const ls_part*> part_pointers_;
  ls_layer layer_{};
  bool with_values_ = false;
};

/// plan_layer's answer, copied.
struct Answer {
  ls_work work{};
  std::string reason, kernel;
  std::vector<ls_source> sources;
  std::vector<ls_stored> stored;
  std::vector<std::string> stored_names;
  std::vector<ls_identity> identities;
  std::map<uint32_t, std::string> unused;
};

/// 64-byte aligned bytes with a guard behind them.
class Block {
 public:
  explicit Block(uint64_t nbytes = 0, char fill = 0x5a)
      : nbytes_(nbytes), bytes_(nbytes + 128, fill) {
    std::memset(at() + nbytes_, 0x77, kGuard);
  }
  char* at() {
    const auto address = reinterpret_cast<uintptr_t>(bytes_.data());
    return bytes_.data() + (64 - address % 64) % 64;
  }
  uint64_t nbytes() const { return nbytes_; }
  bool intact() {
    for (uint64_t i = 0; i < kGuard; ++i) {
      if (at()[nbytes_ + i] != 0x77) return false;
    }
    return true;
  }
  template <typename T>
  std::vector<T> as() {
    std::vector<T> out(nbytes_ / sizeof(T));
    std::memcpy(out.data(), at(), out.size() * sizeof(T));
    return out;
  }

 private:
  static constexpr uint64_t kGuard = 64;
  uint64_t nbytes_;
  std::vector<char> bytes_;
};

/// Stored tensors of one layer after production.
struct Produced {
  Answer answer;
  std::vector<Block> blocks;
  std::vector<ls_buffer> buffers;
  std::vector<const ls_buffer*> pointers;

  Block& named(const std::string& name) {
    for (size_t i = 0; i < answer.stored_names.size(); ++i) {
      if (answer.stored_names[i] == name) return blocks[i];
    }
    throw std::runtime_error("no stored tensor " + name);
  }
};

/// One method of a plugin's library, configured.
class Driver {
 public:
  /// What the host lends, before the first Driver: benchmarks put theirs here.
  inline static decltype(ls_host::parallel_for) lent_parallel_for = run_on_two_threads;
  inline static decltype(ls_host::gemm) lent_gemm = plain_gemm;

  /// `plugin`: the library's stem, from the build's plugin folder.
  explicit Driver(const std::string& plugin, const std::string& method = "") {
    const std::string path = plugin_folder() + plugin + ".so";
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error(dlerror());
    const auto query =
        reinterpret_cast<ls_plugin_query_fn>(dlsym(library, "loadstone_plugin_query"));
    const ls_plugin* described = query(&host());
    if (described == nullptr) throw Refusal(LS_UNSUPPORTED, failure());
    for (uint64_t i = 0; i < described->method_count; ++i) {
      const ls_method* one = described->methods[i];
      if (method.empty() || method == one->name) table_ = one;
    }
    if (table_ == nullptr) throw std::runtime_error("no method " + method);
  }
  ~Driver() { drop(); }
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  const ls_method& table() const { return *table_; }
  const ls_config* config() const { return config_; }
  static const std::string& last_failure() { return failure(); }

  /// Fields by name; those not given take their defaults.
  void configure(const Json& fields) {
    drop();
    Values values;
    for (uint64_t i = 0; i < table_->field_count; ++i) {
      const ls_field& field = *table_->fields[i];
      Json value = fields.contains(field.name) ? fields[field.name]
                   : field.fallback != nullptr ? Json::parse(field.fallback)
                                               : Json();
      if (!value.is_null()) values.add(field, value);
    }
    for (const auto& [name, value] : fields.items()) {
      if (!values.has(name)) throw std::runtime_error("no field " + name);
    }
    std::vector<const ls_value*> pointers;
    for (const ls_value& value : values.values) pointers.push_back(&value);
    check(table_->configure(pointers.data(), pointers.size(), &config_));
  }

  Answer plan(TestLayer& layer) {
    ls_target target = sdk::make<ls_target>();
    target.kind = LS_TARGET_CPU;
    target.name = "cpu";
    return plan(layer, target);
  }
  Answer plan(TestLayer& layer, const ls_target& target) {
    Answer out;
    const int32_t status =
        table_->plan_layer(config_, layer.view(), &target, reinterpret_cast<ls_sink*>(&out));
    check(status);
    return out;
  }

  /// What the method makes of a checkpoint's declaration.
  Declared read_declaration(const Json& declaration, uint64_t claim = 0) {
    Declared out;
    check(table_->read_declaration(as_node(declaration), claim, reinterpret_cast<ls_sink*>(&out)));
    return out;
  }

  /// The entry of an ignore list that names the layer, or "".
  std::string ignored(TestLayer& layer) {
    const char* entry = nullptr;
    check(table_->ignored(config_, layer.view(), &entry));
    return entry == nullptr ? "" : entry;
  }

  /// Plans and produces, streamed sources cut at random granules and fed in random order.
  Produced produce(TestLayer& layer, uint32_t seed = 1) {
    Produced out;
    out.answer = plan(layer);
    if (out.answer.work.verdict != LS_VERDICT_QUANTIZE &&
        out.answer.work.verdict != LS_VERDICT_DECODE) {
      throw Refusal(LS_UNSUPPORTED, out.answer.reason);
    }
    for (const ls_stored& stored : out.answer.stored) {
      out.blocks.emplace_back(stored_nbytes(stored));
    }
    for (Block& block : out.blocks) out.buffers.push_back(buffer(block.at(), block.nbytes()));
    for (const ls_buffer& one : out.buffers) out.pointers.push_back(&one);
    run_session(layer, out, seed);
    for (Block& block : out.blocks) {
      if (!block.intact()) throw std::runtime_error("written past a stored tensor");
    }
    return out;
  }

  std::vector<float> dequantize(TestLayer& layer, Produced& produced, uint64_t begin,
                                uint64_t count, uint64_t k, uint32_t group = 0) {
    std::vector<float> out(count * k);
    ls_rows rows = sdk::make<ls_rows>();
    rows.group = group;
    rows.place = LS_PLACE_HOST;
    rows.note = produced.answer.work.note;
    rows.row_begin = begin;
    rows.row_count = count;
    rows.stored = produced.pointers.data();
    rows.stored_count = produced.pointers.size();
    rows.out = out.data();
    check(table_->dequantize(config_, layer.view(), &rows));
    return out;
  }

  /// The stored basis of a whole ungrouped layer: without what multiplies the input.
  std::vector<float> raw_weight(TestLayer& layer, Produced& produced) {
    std::vector<float> out(layer.out * layer.in), in_scale(layer.in);
    uint32_t has_in_scale = 0;
    ls_rows rows = sdk::make<ls_rows>();
    rows.raw = 1;
    rows.place = LS_PLACE_HOST;
    rows.note = produced.answer.work.note;
    rows.row_count = layer.out;
    rows.stored = produced.pointers.data();
    rows.stored_count = produced.pointers.size();
    rows.out = out.data();
    rows.in_scale = in_scale.data();
    rows.has_in_scale = &has_in_scale;
    check(table_->dequantize(config_, layer.view(), &rows));
    return out;
  }

  struct Run {
    uint32_t x_dtype = LS_DTYPE_F32, y_dtype = LS_DTYPE_F32;
    const void* x = nullptr;
    uint64_t m = 0, k = 0, n = 0;
    const void* bias = nullptr;
    uint32_t bias_dtype = LS_DTYPE_F32;
    ls_step step = sdk::make<ls_step>();
    const uint64_t* group_end = nullptr;
  };

  using Owned = std::unique_ptr<ls_bound, void (*)(ls_bound*)>;
  Owned bind(TestLayer& layer, Produced& produced) {
    ls_target target = sdk::make<ls_target>();
    target.kind = LS_TARGET_CPU;
    target.name = "cpu";
    ls_bound* bound = nullptr;
    check(table_->bind(config_, layer.view(), &target, produced.answer.work.note,
                       produced.pointers.data(), produced.pointers.size(), &bound));
    return {bound, table_->unbind};
  }

  /// y as float32, m rows of n. `key`, if not null, gets the activation's key.
  std::vector<float> apply(TestLayer& layer, Produced& produced, const Run& run,
                           std::vector<uint8_t>* key = nullptr) {
    const Owned owned = bind(layer, produced);
    ls_bound* bound = owned.get();
    ls_apply call = sdk::make<ls_apply>();
    check(table_->variant(bound, &run.step, &call.variant));
    ls_sizes sizes = sdk::make<ls_sizes>();
    check(table_->sizes(bound, call.variant, run.m, &sizes));
    if (key != nullptr) key->assign(sizes.key, sizes.key + sizes.key_nbytes);
    Block workspace(sizes.workspace_nbytes), activation(sizes.activation_nbytes);
    Block y(run.m * run.n * float_nbytes(run.y_dtype));
    call.x_dtype = run.x_dtype;
    call.y_dtype = run.y_dtype;
    call.m = run.m;
    call.x_stride = run.k;
    call.y_stride = run.n;
    call.x = run.x;
    call.y = y.at();
    call.bias = run.bias;
    call.bias_dtype = run.bias_dtype;
    call.group_end = run.group_end;
    call.activation = activation.at();
    call.workspace = workspace.at();
    if (sizes.activation_nbytes != 0) check(table_->prepare(bound, &call));
    check(table_->apply(bound, &call));
    if (!workspace.intact() || !activation.intact() || !y.intact()) {
      throw std::runtime_error("apply wrote past a buffer");
    }
    std::vector<float> out(run.m * run.n);
    widen(run.y_dtype, y.at(), out.data(), out.size());
    return out;
  }

  /// Serialized tensors: name, part and bytes, as save_layer lists them.
  struct Saved {
    ls_stored shape;
    std::string name;
    uint32_t part;
    std::vector<char> bytes;
  };
  std::vector<Saved> save(TestLayer& layer, Produced& produced) {
    saved_.clear();
    check(table_->save_layer(config_, layer.view(), produced.answer.work.note, nullptr));
    for (size_t i = 0; i < saved_.size(); ++i) {
      saved_[i].bytes.resize(stored_nbytes(saved_[i].shape));
      check(table_->save_read(config_, layer.view(), produced.answer.work.note,
                              produced.pointers.data(), produced.pointers.size(), i, 0,
                              saved_[i].bytes.size(), saved_[i].bytes.data()));
    }
    return saved_;
  }

  /// What save_model declares.
  Json saved_declaration() {
    saved_declaration_ = Json();
    check(table_->save_model(config_, nullptr));
    return saved_declaration_;
  }

  static uint64_t stored_nbytes(const ls_stored& stored) {
    uint64_t elements = 1;
    for (uint32_t i = 0; i < stored.rank; ++i) elements *= stored.shape[i];
    if (stored.dtype < LS_DTYPE_GGML) return elements * item_nbytes(stored.dtype);
    const ggml::TypeInfo& type = *ggml::find_type(stored.dtype - uint32_t{LS_DTYPE_GGML});
    return elements / type.elems * type.nbytes;
  }
  static uint64_t item_nbytes(uint32_t dtype) {
    switch (dtype) {
      case LS_DTYPE_I64:
        return 8;
      case LS_DTYPE_F32:
      case LS_DTYPE_I32:
        return 4;
      case LS_DTYPE_BF16:
      case LS_DTYPE_F16:
        return 2;
      default:
        return 1;
    }
  }

 private:
  /// Of the build, or of a pack for a machine without it.
  static std::string plugin_folder() {
    const char* pack = std::getenv("LOADSTONE_GPU_PACK");
    return pack != nullptr ? std::string(pack) + "/plugins/" : LOADSTONE_BINARY_DIR "/plugins/";
  }

  struct Values {
    std::vector<ls_value> values;
    std::vector<std::unique_ptr<std::string>> texts;
    std::vector<std::unique_ptr<std::vector<const char*>>> lists;
    std::vector<std::unique_ptr<std::vector<int64_t>>> numbers;

    bool has(const std::string& name) const {
      for (const ls_value& value : values) {
        if (name == value.name) return true;
      }
      return false;
    }
    const char* keep(const std::string& text) {
      texts.push_back(std::make_unique<std::string>(text));
      return texts.back()->c_str();
    }
    void add(const ls_field& field, const Json& json) {
      ls_value value = sdk::make<ls_value>();
      value.name = field.name;
      value.type = field.type;
      if (field.type == LS_FIELD_BOOL) value.integer = json.get<bool>() ? 1 : 0;
      if (field.type == LS_FIELD_INTEGER) value.integer = json.get<int64_t>();
      if (field.type == LS_FIELD_NUMBER) value.number = json.get<double>();
      if (field.type == LS_FIELD_TEXT) value.text = keep(json.get<std::string>());
      if (field.type == LS_FIELD_TREE) value.text = keep(json.dump());
      if (field.type == LS_FIELD_TEXTS) {
        lists.push_back(std::make_unique<std::vector<const char*>>());
        for (const Json& item : json) lists.back()->push_back(keep(item.get<std::string>()));
        value.texts = lists.back()->data();
        value.count = lists.back()->size();
      }
      if (field.type == LS_FIELD_INTEGERS) {
        numbers.push_back(std::make_unique<std::vector<int64_t>>());
        for (const Json& item : json) numbers.back()->push_back(item.get<int64_t>());
        value.integers = numbers.back()->data();
        value.count = numbers.back()->size();
      }
      values.push_back(value);
    }
  };

  static std::string& failure() {
    static std::string text;
    return text;
  }
  static void check(int32_t status) {
    if (status != LS_OK) throw Refusal(status, failure());
  }
  void drop() {
    if (config_ != nullptr) table_->config_destroy(config_);
    config_ = nullptr;
  }

  static const ls_host& host() {
    static const ls_host table = make_host();
    return table;
  }
  static Answer& answer(ls_sink* sink) { return *reinterpret_cast<Answer*>(sink); }
  static ls_host make_host() {
    ls_host out = sdk::make<ls_host>();
    out.abi_major = LS_ABI_MAJOR;
    out.abi_minor = LS_ABI_MINOR;
    out.fail = [](int32_t status, const char* text) {
      failure() = text;
      return status;
    };
    out.parallel_for = lent_parallel_for;
    out.gemm = lent_gemm;
    out.plan_source = [](ls_sink* sink, const ls_source* one) -> int32_t {
      answer(sink).sources.push_back(*one);
      return LS_OK;
    };
    out.plan_stored = [](ls_sink* sink, const ls_stored* one) -> int32_t {
      answer(sink).stored.push_back(*one);
      answer(sink).stored_names.push_back(one->name);
      return LS_OK;
    };
    out.plan_identity = [](ls_sink* sink, const ls_identity* one) -> int32_t {
      answer(sink).identities.push_back(*one);
      return LS_OK;
    };
    out.plan_repack = [](ls_sink*, const ls_repack*) -> int32_t { return LS_OK; };
    out.plan_unused = [](ls_sink* sink, uint32_t tensor, const char* reason) -> int32_t {
      answer(sink).unused[tensor] = reason;
      return LS_OK;
    };
    out.plan_work = [](ls_sink* sink, const ls_work* work) -> int32_t {
      answer(sink).work = *work;
      answer(sink).reason = work->reason == nullptr ? "" : work->reason;
      answer(sink).kernel = work->kernel == nullptr ? "" : work->kernel;
      return LS_OK;
    };
    lend_declarations(out);
    out.save_tensor = [](ls_sink*, const ls_stored* one, uint32_t part) -> int32_t {
      saved_.push_back({*one, one->name, part, {}});
      return LS_OK;
    };
    out.save_declaration = [](ls_sink*, const char* json) -> int32_t {
      saved_declaration_ = Json::parse(json);
      return LS_OK;
    };
    return out;
  }

  static ls_buffer buffer(void* at, uint64_t nbytes) {
    ls_buffer out = sdk::make<ls_buffer>();
    out.place = LS_PLACE_HOST;
    out.at = at;
    out.nbytes = nbytes;
    return out;
  }

  void run_session(TestLayer& layer, Produced& produced, uint32_t seed) {
    const Answer& answer = produced.answer;
    const ls_layer* view = layer.view();
    std::vector<ls_buffer> residents;
    std::vector<const ls_source*> source_pointers;
    std::vector<const ls_buffer*> resident_pointers;
    for (const ls_source& source : answer.sources) {
      const ls_tensor& tensor = *view->tensors[source.tensor];
      char* at = layer.sources()[source.tensor].bytes.data() + source.row_begin * tensor.row_nbytes;
      residents.push_back(buffer(at, source.row_count * tensor.row_nbytes));
    }
    for (size_t i = 0; i < answer.sources.size(); ++i) {
      source_pointers.push_back(&answer.sources[i]);
      const bool streamed = answer.sources[i].mode == LS_SOURCE_STREAMED;
      resident_pointers.push_back(streamed ? nullptr : &residents[i]);
    }
    Block scratch(answer.work.session_scratch);
    ls_begin begin = sdk::make<ls_begin>();
    begin.place = LS_PLACE_HOST;
    begin.group_count = layer.groups;
    begin.note = answer.work.note;
    begin.sources = source_pointers.data();
    begin.resident = resident_pointers.data();
    begin.source_count = source_pointers.size();
    begin.stored = produced.pointers.data();
    begin.stored_count = produced.pointers.size();
    begin.scratch = scratch.at();
    ls_session* session = nullptr;
    check(table_->begin(config_, view, &begin, &session));
    struct Abort {  // unless ended
      const ls_method* table;
      ls_session* session;
      ~Abort() {
        if (session != nullptr) table->abort(session);
      }
    } owned{table_, session};
    const uint64_t stat_nbytes = answer.work.stat_nbytes * layer.groups;
    Block merged(stat_nbytes, 0);
    Random random(seed);
    for (uint32_t pass = 1; pass <= (answer.work.passes == 2 ? 2u : 1u); ++pass) {
      feed_sources(layer, answer, session, pass, stat_nbytes, merged, random);
    }
    feed_identities(layer, produced, session, random);
    ls_session* last = owned.session;
    owned.session = nullptr;
    check(table_->end(last, stat_nbytes == 0 ? nullptr : merged.at(), 0));
  }

  struct Cut {
    uint32_t source;
    uint64_t begin, count;
  };

  void feed_sources(TestLayer& layer, const Answer& answer, ls_session* session, uint32_t pass,
                    uint64_t stat_nbytes, Block& merged, Random& random) {
    std::vector<Cut> cuts;
    for (uint32_t s = 0; s < answer.sources.size(); ++s) {
      const ls_source& source = answer.sources[s];
      if (source.mode != LS_SOURCE_STREAMED) continue;
      const uint64_t granule = std::max<uint64_t>(source.granule, 1);
      for (uint64_t row = 0; row < source.row_count;) {
        const uint64_t rows = std::min(granule * (1 + random.bits() % 4), source.row_count - row);
        cuts.push_back({s, source.row_begin + row, rows});
        row += rows;
      }
    }
    for (size_t i = cuts.size(); i > 1; --i) std::swap(cuts[i - 1], cuts[random.bits() % i]);
    for (const Cut& cut : cuts) {
      const ls_source& source = answer.sources[cut.source];
      const auto& bytes = layer.sources()[source.tensor].bytes;
      const uint64_t row_nbytes = layer.view()->tensors[source.tensor]->row_nbytes;
      Block scratch(answer.work.feed_scratch), stat(stat_nbytes, 0x33);
      ls_piece piece = sdk::make<ls_piece>();
      piece.source = cut.source;
      piece.identity = UINT32_MAX;
      piece.pass = pass;
      piece.place = LS_PLACE_HOST;
      piece.tag = source.tag;
      piece.row_begin = cut.begin;
      piece.row_count = cut.count;
      piece.row_stride = row_nbytes;
      piece.at = bytes.data() + cut.begin * row_nbytes;
      piece.nbytes = cut.count * row_nbytes;
      piece.scratch = scratch.at();
      const bool gathers = answer.work.passes == 2 && pass == 1;
      if (gathers) std::memset(stat.at(), 0, stat_nbytes);
      if (answer.work.passes == 2) piece.stat = gathers ? stat.at() : merged.at();
      check(table_->feed(session, &piece));
      if (!scratch.intact() || !stat.intact()) throw std::runtime_error("feed wrote past scratch");
      if (gathers) check(table_->merge(session, merged.at(), stat.at()));
    }
  }

  void feed_identities(TestLayer& layer, Produced& produced, ls_session* session, Random& random) {
    const Answer& answer = produced.answer;
    for (uint32_t i = 0; i < answer.identities.size(); ++i) {
      const ls_identity& one = answer.identities[i];
      const char* from = layer.sources()[one.tensor].bytes.data() + one.src_offset;
      char* to = produced.blocks[one.stored].at() + one.dst_offset;
      for (uint64_t r = 0; r < one.rows; ++r) {
        std::memcpy(to + r * one.dst_stride, from + r * one.src_stride, one.row_nbytes);
      }
      for (uint64_t row = 0; one.checked != 0 && row < one.rows;) {
        const uint64_t rows = std::min<uint64_t>(1 + random.bits() % 7, one.rows - row);
        Block scratch(answer.work.feed_scratch);
        ls_piece piece = sdk::make<ls_piece>();
        piece.source = UINT32_MAX;
        piece.identity = i;
        piece.pass = 1;
        piece.place = LS_PLACE_HOST;
        piece.tag = one.tag;
        piece.row_begin = row;
        piece.row_count = rows;
        piece.row_stride = one.dst_stride;
        piece.at = to + row * one.dst_stride;
        piece.nbytes = rows * one.dst_stride;
        piece.scratch = scratch.at();
        check(table_->feed(session, &piece));
        row += rows;
      }
    }
  }

  inline static std::vector<Saved> saved_;
  inline static Json saved_declaration_;
  const ls_method* table_ = nullptr;
  ls_config* config_ = nullptr;
};

}  // namespace loadstone::common::testing
