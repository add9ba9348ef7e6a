// A plugin against the bare C interface that misbehaves as its build or its configuration says.
// FAULT_… macros: while loading and in the descriptor. Field `fault`: in plan_layer and elsewhere.
#include <loadstone/plugin.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#if defined(FAULT_UNDEFINED_SYMBOL)
extern "C" void a_function_that_nobody_has();
#endif

#if defined(FAULT_STATIC_THROW)
namespace {
struct Throws {
  Throws() { throw std::runtime_error("thrown by a static initialiser"); }
} throws;
}  // namespace
#endif

#if defined(FAULT_STATIC_THROW_INT)
namespace {
struct Throws {
  Throws() { throw 42; }
} throws;
}  // namespace
#endif

struct ls_config {
  std::string fault;
};

namespace {

const ls_host* host;

int32_t configure(const ls_value* const* values, uint64_t count, ls_config** out) {
  auto* made = new ls_config;
  for (uint64_t i = 0; i < count; ++i) {
    if (std::strcmp(values[i]->name, "fault") == 0) made->fault = values[i]->text;
  }
  if (made->fault == "configure_null") {
    delete made;
    return LS_OK;
  }
  *out = made;
  return LS_OK;
}

void config_destroy(ls_config* config) { delete config; }

template <typename T>
T make() {
  T out{};
  out.struct_size = sizeof out;
  return out;
}

int32_t odd_status(const std::string& fault) {
  if (fault == "throw") throw std::runtime_error("thrown by plan_layer");
  if (fault == "throw_int") throw 7;
  if (fault == "bad_alloc") throw std::bad_alloc();
  if (fault == "status_99") return 99;
  if (fault == "status_negative") return host->fail(-3, "a negative one");
  if (fault == "no_text") return LS_UNSUPPORTED;
  if (fault == "null_text") return host->fail(LS_UNSUPPORTED, nullptr);
  if (fault == "dirty_text") return host->fail(LS_INVALID_CONFIG, "line\nand \x1b[31mcolour\xff");
  if (fault == "fail_with_ok") return host->fail(LS_OK, "said fine, meant not");
  return LS_OK;
}

int32_t plan_layer(const ls_config* config, const ls_layer* layer, const ls_target*,
                   ls_sink* sink) {
  const std::string& fault = config->fault;
  if (const int32_t status = odd_status(fault); status != LS_OK) return status;
  if (fault == "exit") std::exit(3);
  if (fault == "declares") {
    return host->declare_scope(sink, "x", LS_STYLE_EXACT, LS_SCOPE_KEEP);
  }
  if (fault == "null_struct") return host->plan_source(sink, nullptr);

  ls_source source = make<ls_source>();
  source.mode = LS_SOURCE_STREAMED;
  source.row_count = layer->tensors[0]->shape[0];
  if (fault == "source_index") source.tensor = 1000;
  if (fault == "source_mode") source.mode = 9;
  if (fault == "source_rows") source.row_begin = 1;
  if (fault == "source_overflow") source.row_begin = UINT64_MAX;
  if (fault == "source_empty") source.row_count = 0;
  if (fault != "unmentioned" && fault.rfind("identity", 0) != 0) {
    if (const int32_t status = host->plan_source(sink, &source); status != LS_OK) return status;
  }
  if (fault == "endless") {
    int32_t status = LS_OK;
    while (status == LS_OK) status = host->plan_source(sink, &source);
    return status;
  }

  ls_stored stored = make<ls_stored>();
  stored.dtype = LS_DTYPE_U8;
  stored.rank = 2;
  stored.shape[0] = layer->out;
  stored.shape[1] = layer->in;
  stored.name = "weight";
  if (fault == "stored_dtype") stored.dtype = 999;
  if (fault == "stored_rank") stored.rank = 7;
  if (fault == "stored_overflow") stored.shape[0] = stored.shape[1] = uint64_t{1} << 40;
  if (fault == "stored_align") stored.align = 48;
  if (fault == "stored_name") stored.name = nullptr;
  if (fault == "stored_f4") {
    stored.dtype = LS_DTYPE_F4;
    stored.shape[1] = 3;
  }
  host->plan_stored(sink, &stored);
  if (fault == "stored_twice") host->plan_stored(sink, &stored);

  ls_identity identity = make<ls_identity>();
  identity.rows = 1;
  identity.row_nbytes = layer->out * layer->in;
  if (fault == "identity_index") identity.stored = 5;
  if (fault == "identity_past_source") identity.src_offset = layer->tensors[0]->nbytes;
  if (fault == "identity_past_stored") identity.row_nbytes += 1;
  if (fault == "identity_gap") identity.row_nbytes -= 1;
  if (fault == "identity_empty") identity.rows = 0;
  if (fault == "identity_overflow") {
    identity.rows = 3;
    identity.row_nbytes = 1;
    identity.dst_stride = identity.src_stride = UINT64_MAX / 2 + 1;
  }
  if (fault.rfind("identity", 0) == 0) host->plan_identity(sink, &identity);
  if (fault == "identity_twice") host->plan_identity(sink, &identity);

  ls_repack repack = make<ls_repack>();
  repack.nbytes = 64;
  if (fault == "repack_without_function") host->plan_repack(sink, &repack);
  if (fault == "unused_index") host->plan_unused(sink, 77, "no use");
  if (fault == "unused_reason") host->plan_unused(sink, 0, "");

  ls_work work = make<ls_work>();
  work.verdict = LS_VERDICT_QUANTIZE;
  work.kernel = "none";
  if (fault == "verdict") work.verdict = 17;
  if (fault == "no_reason") work.verdict = LS_VERDICT_KEEP;
  if (fault == "no_kernel") work.kernel = "";
  if (fault == "passes") work.passes = 3;
  if (fault == "statistics") work.stat_nbytes = 8;
  if (fault == "scratch") work.session_scratch = UINT64_MAX;
  if (fault == "error_nan") work.weight_error = __builtin_nan("");
  if (fault == "short_work") work.struct_size = 12;  // verdict and passes alone
  if (fault == "no_work") return LS_OK;
  host->plan_work(sink, &work);
  if (fault == "work_twice") host->plan_work(sink, &work);
  return LS_OK;
}

int32_t read_declaration(const ls_node* node, uint64_t, ls_sink* sink) {
  // Every node function on every node, and on what isn't there.
  const char* key = nullptr;
  if (host->node_get(nullptr, "x") != nullptr || host->node_at(node, 1u << 20, &key) != nullptr ||
      host->node_text(nullptr) != nullptr || host->node_kind(nullptr) != 0) {
    return host->fail(LS_INTERNAL, "absent nodes are not absent");
  }
  std::string kinds;
  for (uint64_t i = 0; i < host->node_count(node); ++i) {
    const ls_node* child = host->node_at(node, i, &key);
    const char* text = host->node_text(child);
    kinds += std::string(key) + "=" + std::to_string(host->node_kind(child)) + ":" +
             (text == nullptr ? "null" : text) + ";";
  }
  ls_value value = make<ls_value>();
  value.type = LS_FIELD_TEXT;
  value.name = host->node_get(node, "unknown_field") != nullptr ? "never_declared" : "fault";
  value.text = kinds.c_str();
  if (host->node_get(node, "bad_style") != nullptr) {
    return host->declare_field(sink, "a", 99, &value);
  }
  const int32_t status = host->declare_field(sink, "blocks.0", LS_STYLE_PREFIX, &value);
  if (status != LS_OK) return status;
  return host->declare_scope(sink, "*.mlp", LS_STYLE_GLOB, LS_SCOPE_KEEP);
}

int32_t begin(const ls_config*, const ls_layer*, const ls_begin*, ls_session**) {
  return host->fail(LS_UNSUPPORTED, "never made");
}
int32_t feed(ls_session*, const ls_piece*) { return LS_OK; }
int32_t end(ls_session*, const void*, uint32_t) { return LS_OK; }
void abort_session(ls_session*) {}

const ls_field kFault = [] {
  ls_field out = make<ls_field>();
  out.type = LS_FIELD_TEXT;
  out.name = "fault";
  out.doc = "what to do wrong";
  out.fallback = "\"\"";
#if defined(FAULT_BAD_DEFAULT)
  out.fallback = "{not json";
#endif
#if defined(FAULT_FIELD_TYPE)
  out.type = 42;
#endif
  return out;
}();
const ls_field* const kFields[] = {&kFault};

const ls_claim kClaim = [] {
  ls_claim out = make<ls_claim>();
  out.origin = "quantization_config";
  out.quant_method = "faulty";
  return out;
}();
const ls_claim* const kClaims[] = {&kClaim};

ls_method method_named(const char* name) {
  ls_method out = make<ls_method>();
  out.name = name;
  out.summary = "misbehaves on demand";
  out.fields = kFields;
  out.field_count = 1;
  out.claims = kClaims;
  out.claim_count = 1;
  out.read_declaration = read_declaration;
  out.configure = configure;
  out.config_destroy = config_destroy;
  out.plan_layer = plan_layer;
  out.begin = begin;
  out.feed = feed;
  out.end = end;
  out.abort = abort_session;
#if defined(FAULT_SHORT_METHOD)
  out.struct_size = 40;
#endif
#if defined(FAULT_OLD_METHOD)
  out.struct_size = offsetof(ls_method, dequantize);  // a plugin from before dequantize
#endif
#if defined(FAULT_NULL_FUNCTION)
  out.plan_layer = nullptr;
#endif
#if defined(FAULT_FIELD_COUNT)
  out.field_count = 1u << 30;
#endif
  return out;
}

const ls_method kMethod = method_named("faulty");
#if defined(FAULT_DUPLICATE_METHOD)
const ls_method* const kMethods[] = {&kMethod, &kMethod};
#elif defined(FAULT_NULL_METHOD)
const ls_method* const kMethods[] = {nullptr};
#else
const ls_method* const kMethods[] = {&kMethod};
#endif

ls_plugin describe() {
  ls_plugin out = make<ls_plugin>();
  out.abi_major = LS_ABI_MAJOR;
  out.abi_minor = LS_ABI_MINOR;
  out.name = "faulty";
  out.version = "1.2.3";
  out.licence = "MIT";
  out.methods = kMethods;
  out.method_count = sizeof kMethods / sizeof kMethods[0];
#if defined(FAULT_NEWER_ABI)
  out.abi_major = LS_ABI_MAJOR + 7;
#endif
#if defined(FAULT_SHORT_PLUGIN)
  out.struct_size = 16;
#endif
#if defined(FAULT_TINY_PLUGIN)
  out.struct_size = 2;
#endif
#if defined(FAULT_OTHER_VERSION)
  out.version = "9.9.9";
#endif
#if defined(FAULT_MANY_METHODS)
  out.method_count = UINT64_MAX;
#endif
  return out;
}

}  // namespace

#if !defined(FAULT_NO_SYMBOL)
extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* from) {
#if defined(FAULT_UNDEFINED_SYMBOL)
  a_function_that_nobody_has();
#endif
  host = from;
#if defined(FAULT_QUERY_THROWS)
  throw std::runtime_error("thrown by the query");
#endif
#if defined(FAULT_QUERY_REFUSES)
  host->fail(LS_UNSUPPORTED, "this host is too plain");
  return nullptr;
#endif
  static const ls_plugin plugin = describe();
  return &plugin;
}
#endif
