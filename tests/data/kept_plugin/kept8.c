/* kept8: the plugin whose binary is kept (README.md): weight-only integers of `bits` bits with one
 * float32 scale a part, in C11 without libm. It is here for the interface that it uses, not for
 * what it does: two passes with merged statistics, identities, unused tensors, declarations,
 * patterns, the host's threads and product, saving by ranges.
 *
 *   scale = max|w| / n over the part, n = 2^(bits-1) - 1 (1 for a part of zeros)
 *   q     = clamp(round_half_even(w / scale), -n, n)
 *   wq    = q * scale
 *
 * Stored: weight I8 [out, in], weight_scale F32 [parts]. Serialized: weight, weight_scale F32 [1].
 */
#include <loadstone/plugin.h>
#include <stdlib.h>
#include <string.h>

enum { WEIGHT = 0, SCALE = 1, BLOCK_ROWS = 64, MAX_ENTRIES = 16, MAX_ENTRY = 64 };

struct ls_config {
  int32_t bits;
  uint64_t entry_count;
  char entries[MAX_ENTRIES][MAX_ENTRY];
};
struct ls_session {
  const ls_config* config;
  const ls_layer* layer;
  const ls_begin* begin;
};
struct ls_bound {
  const ls_layer* layer;
  const int8_t* codes;
  const float* scales;
};

static const ls_host* host;

#define KNOWN(pointer) ((pointer) != NULL && (pointer)->struct_size >= sizeof *(pointer))
#define REQUIRE(pointer)                                                                     \
  do {                                                                                       \
    if (!KNOWN(pointer)) return host->fail(LS_INVALID_ARGUMENT, "call rejected: " #pointer); \
  } while (0)

/* ---- floats --------------------------------------------------------------------------------- */

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static int is_float(uint32_t dtype) {
  return dtype == LS_DTYPE_F32 || dtype == LS_DTYPE_BF16 || dtype == LS_DTYPE_F16;
}

static float half_to_float(uint32_t half) {
  const uint32_t exponent = (half >> 10) & 31, mantissa = half & 1023, sign = (half & 0x8000) << 16;
  if (exponent == 31) return float_of(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return float_of(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float tiny = (float)mantissa * 0x1p-24f;
  return sign != 0 ? -tiny : tiny;
}

static float read_float(uint32_t dtype, const void* from, uint64_t i) {
  if (dtype == LS_DTYPE_F32) return ((const float*)from)[i];
  if (dtype == LS_DTYPE_F16) return half_to_float(((const uint16_t*)from)[i]);
  return float_of((uint32_t)((const uint16_t*)from)[i] << 16);
}

static uint16_t float_to_half(float value) {
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
  const uint32_t sign = (bits >> 16) & 0x8000u;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (magnitude < 0x38800000u) { /* subnormal: adding 0.5 aligns and rounds */
    return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u));
  }
  return (uint16_t)(sign | ((magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13));
}

static void write_float(uint32_t dtype, void* to, uint64_t i, float value) {
  const uint32_t bits = bits_of(value);
  if (dtype == LS_DTYPE_F32) {
    ((float*)to)[i] = value;
  } else if (dtype == LS_DTYPE_F16) {
    ((uint16_t*)to)[i] = float_to_half(value);
  } else {
    ((uint16_t*)to)[i] = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
}

/* Of |value| < 2^22: the sum's own rounding leaves the nearest even integer. */
static float round_half_even(float value) {
  volatile float shifted = value + 12582912.0f;
  return shifted - 12582912.0f;
}

/* ---- configuration -------------------------------------------------------------------------- */

static int32_t configure(const ls_value* const* values, uint64_t count, ls_config** out) {
  ls_config* config = calloc(1, sizeof *config);
  if (config == NULL) return host->fail(LS_RESOURCE, "out of memory");
  config->bits = 8;
  for (uint64_t i = 0; i < count; ++i) {
    if (!KNOWN(values[i])) continue;
    if (strcmp(values[i]->name, "bits") == 0) config->bits = (int32_t)values[i]->integer;
    if (strcmp(values[i]->name, "ignored_layers") != 0) continue;
    for (uint64_t e = 0; e < values[i]->count; ++e) {
      const size_t length = strlen(values[i]->texts[e]);
      if (config->entry_count == MAX_ENTRIES || length >= MAX_ENTRY) {
        free(config);
        return host->fail(LS_INVALID_CONFIG, "field ignored_layers: found too many or too long");
      }
      memcpy(config->entries[config->entry_count++], values[i]->texts[e], length + 1);
    }
  }
  *out = config;
  return LS_OK;
}

static void config_destroy(ls_config* config) { free(config); }

/* {"quant_method": "kept8", "bits": 5, "modules_to_not_convert": ["img_in"]} */
static int32_t read_declaration(const ls_node* node, uint64_t claim, ls_sink* sink) {
  const ls_node* bits = host->node_get(node, "bits");
  const ls_node* kept = host->node_get(node, "modules_to_not_convert");
  if (claim != 0) return host->fail(LS_INVALID_ARGUMENT, "found another claim than the one");
  if (bits != NULL) {
    if (host->node_kind(bits) != LS_FIELD_INTEGER) {
      return host->fail(LS_INVALID_CHECKPOINT, "bits: expected an integer");
    }
    ls_value value = {.struct_size = sizeof value, .type = LS_FIELD_INTEGER, .name = "bits"};
    value.integer = strtol(host->node_text(bits), NULL, 10);
    const int32_t status = host->declare_field(sink, NULL, LS_STYLE_EXACT, &value);
    if (status != LS_OK) return status;
  }
  for (uint64_t i = 0; i < host->node_count(kept); ++i) {
    const char* pattern = host->node_text(host->node_at(kept, i, NULL));
    const int32_t status = host->declare_scope(sink, pattern, LS_STYLE_SEGMENTS, LS_SCOPE_KEEP);
    if (status != LS_OK) return status;
  }
  return LS_OK;
}

/* Against the name, and against "component.name". */
static int32_t entry_matches(const char* entry, const char* component, const char* name) {
  const int is_glob = strpbrk(entry, "*?[{") != NULL, is_regex = strncmp(entry, "re:", 3) == 0;
  const uint32_t style = is_regex ? LS_STYLE_REGEX : is_glob ? LS_STYLE_GLOB : LS_STYLE_SEGMENTS;
  const size_t front = strlen(component), back = strlen(name), length = strlen(entry);
  char whole[1024], anchored[MAX_ENTRY + 8] = "^(?:"; /* a regex counts from the name's start */
  if (is_regex) {
    memcpy(anchored + 4, entry + 3, length - 3);
    anchored[length + 1] = ')';
  }
  const char* pattern = is_regex ? anchored : entry;
  const int32_t hit = host->match(style, pattern, name);
  if (hit != 0 || front + back + 2 > sizeof whole) return hit;
  memcpy(whole, component, front);
  whole[front] = '.';
  memcpy(whole + front + 1, name, back + 1);
  return host->match(style, pattern, whole);
}

/* By the layer's path, or by each part's. */
static int32_t ignored(const ls_config* config, const ls_layer* layer, const char** entry) {
  uint64_t hits = 0;
  *entry = NULL;
  REQUIRE(layer);
  for (uint64_t p = 0; p <= layer->part_count; ++p) {
    const char* name = p == layer->part_count ? layer->path : layer->parts[p]->name;
    int32_t hit = 0;
    for (uint64_t e = 0; e < config->entry_count && hit == 0; ++e) {
      hit = entry_matches(config->entries[e], layer->component, name);
      if (hit < 0) return -hit;
      if (hit != 0) *entry = config->entries[e];
    }
    if (hit != 0 && p == layer->part_count) return LS_OK;
    hits += hit != 0;
  }
  if (hits == layer->part_count || hits == 0) return LS_OK;
  return host->fail(LS_INVALID_CONFIG, "ignored_layers names some parts of a fused layer");
}

/* ---- planning ------------------------------------------------------------------------------- */

static int32_t verdict(ls_sink* sink, uint32_t which, const char* reason) {
  ls_work work = {.struct_size = sizeof work, .verdict = which, .reason = reason};
  return host->plan_work(sink, &work);
}

/* The tensor's index, or tensor_count. */
static uint32_t find(const ls_layer* layer, uint32_t part, const char* name) {
  uint32_t i = 0;
  while (i < layer->tensor_count && (!KNOWN(layer->tensors[i]) || layer->tensors[i]->part != part ||
                                     strcmp(layer->tensors[i]->name, name) != 0)) {
    ++i;
  }
  return i;
}

static const ls_tensor* tensor_at(const ls_layer* layer, uint32_t index) {
  return index < layer->tensor_count ? layer->tensors[index] : NULL;
}

static int32_t plan_stored(const ls_layer* layer, ls_sink* sink) {
  ls_stored weight = {.struct_size = sizeof weight, .dtype = LS_DTYPE_I8, .rank = 2};
  ls_stored scale = {.struct_size = sizeof scale, .dtype = LS_DTYPE_F32, .rank = 1};
  weight.shape[0] = layer->out;
  weight.shape[1] = layer->in;
  weight.name = "weight";
  scale.shape[0] = layer->part_count;
  scale.name = "weight_scale";
  const int32_t status = host->plan_stored(sink, &weight);
  return status != LS_OK ? status : host->plan_stored(sink, &scale);
}

static int32_t plan_serialized(const ls_layer* layer, uint32_t p, ls_sink* sink) {
  const uint32_t at = find(layer, p, "weight"), scale_at = find(layer, p, "weight_scale");
  const ls_part* part = layer->parts[p];
  const ls_tensor *weight = tensor_at(layer, at), *scale = tensor_at(layer, scale_at);
  if (weight->dtype != LS_DTYPE_I8 || !KNOWN(scale) || scale->dtype != LS_DTYPE_F32 ||
      scale->nbytes != sizeof(float)) {
    return host->fail(LS_INVALID_CHECKPOINT, "weight without scale: expected weight_scale F32 [1]");
  }
  ls_identity rows = {.struct_size = sizeof rows, .stored = WEIGHT, .tensor = at, .rows = 1};
  rows.src_offset = part->file_begin * layer->in;
  rows.dst_offset = part->out_begin * layer->in;
  rows.row_nbytes = part->out_count * layer->in;
  const int32_t status = host->plan_identity(sink, &rows);
  if (status != LS_OK) return status;
  ls_identity one = {.struct_size = sizeof one, .stored = SCALE, .tensor = scale_at, .rows = 1};
  one.dst_offset = p * sizeof(float);
  one.row_nbytes = sizeof(float);
  return host->plan_identity(sink, &one);
}

static int32_t plan_part(const ls_layer* layer, uint32_t p, int* serialized, ls_sink* sink) {
  const uint32_t at = find(layer, p, "weight"), unused = find(layer, p, "input_scale");
  const ls_part* part = layer->parts[p];
  REQUIRE(part);
  if (unused < layer->tensor_count) {
    const int32_t status = host->plan_unused(sink, unused, "activations aren't rounded");
    if (status != LS_OK) return status;
  }
  if (is_float(layer->tensors[at]->dtype)) {
    ls_source source = {.struct_size = sizeof source, .tensor = at, .mode = LS_SOURCE_STREAMED};
    source.row_begin = part->file_begin;
    source.row_count = part->out_count;
    source.tag = p;
    return host->plan_source(sink, &source);
  }
  ++*serialized;
  return plan_serialized(layer, p, sink);
}

static int32_t plan_layer(const ls_config* config, const ls_layer* layer, const ls_target* target,
                          ls_sink* sink) {
  int serialized = 0;
  REQUIRE(layer);
  REQUIRE(target);
  if (target->kind != LS_TARGET_CPU) return verdict(sink, LS_VERDICT_UNSUPPORTED, "CPU alone");
  if (layer->kind != LS_KIND_LINEAR) return verdict(sink, LS_VERDICT_UNSUPPORTED, "linear alone");
  for (uint32_t p = 0; p < layer->part_count; ++p) {
    const ls_tensor* weight = tensor_at(layer, find(layer, p, "weight"));
    if (!KNOWN(weight) || weight->rank != 2 || weight->shape[1] != layer->in) {
      return verdict(sink, LS_VERDICT_UNSUPPORTED, "needs a matrix of the layer's width");
    }
    if (layer->want == LS_WANT_DECODE) {
      return is_float(weight->dtype)
                 ? verdict(sink, LS_VERDICT_KEEP, "not quantized in the checkpoint")
                 : verdict(sink, LS_VERDICT_UNSUPPORTED, "doesn't decode");
    }
  }
  int32_t status = plan_stored(layer, sink);
  for (uint32_t p = 0; p < layer->part_count && status == LS_OK; ++p) {
    status = plan_part(layer, p, &serialized, sink);
  }
  if (status != LS_OK) return status;
  if (serialized != 0 && serialized != (int)layer->part_count) {
    return verdict(sink, LS_VERDICT_SPLIT, "some parts are serialized, some are not");
  }
  ls_work work = {.struct_size = sizeof work, .verdict = LS_VERDICT_QUANTIZE};
  work.kernel = "kept8_blockwise";
  work.note = (uint64_t)config->bits;
  if (serialized == 0) {
    work.passes = 2;
    work.stat_nbytes = layer->part_count * sizeof(float);
    work.weight_error = 0.5 / ((1 << (config->bits - 1)) - 1) * 1.00001;
  }
  return host->plan_work(sink, &work);
}

/* ---- producing ------------------------------------------------------------------------------ */

static float scale_of(float largest, int levels) {
  const float scale = largest / (float)levels;
  return scale < 0x1p-126f ? 1.0f : scale;
}

static int32_t begin(const ls_config* config, const ls_layer* layer, const ls_begin* arrays,
                     ls_session** out) {
  REQUIRE(layer);
  REQUIRE(arrays);
  for (uint64_t i = 0; i < arrays->stored_count; ++i) REQUIRE(arrays->stored[i]);
  if (arrays->note != (uint64_t)config->bits) {
    return host->fail(LS_INVALID_ARGUMENT, "found another note than planned");
  }
  *out = malloc(sizeof **out);
  if (*out == NULL) return host->fail(LS_RESOURCE, "out of memory");
  (*out)->config = config;
  (*out)->layer = layer;
  (*out)->begin = arrays;
  host->log(LS_LOG_DEBUG, "kept8 begins a layer");
  return LS_OK;
}

static int32_t feed(ls_session* session, const ls_piece* piece) {
  REQUIRE(piece);
  const ls_layer* layer = session->layer;
  const ls_tensor* tensor = layer->tensors[session->begin->sources[piece->source]->tensor];
  const ls_part* part = layer->parts[piece->tag];
  const int levels = (1 << (session->config->bits - 1)) - 1;
  float* largest = (float*)piece->stat + piece->tag;
  const float scale = piece->pass == 2 ? scale_of(*largest, levels) : 0;
  int8_t* codes = session->begin->stored[WEIGHT]->at;
  for (uint64_t r = 0; r < piece->row_count; ++r) {
    const void* from = (const char*)piece->at + r * piece->row_stride;
    const uint64_t row = part->out_begin + piece->row_begin + r - part->file_begin;
    if (host->cancelled()) return host->fail(LS_CANCELLED, "cancelled");
    for (uint64_t c = 0; c < layer->in; ++c) {
      const float value = read_float(tensor->dtype, from, c);
      const float magnitude = value < 0 ? -value : value;
      if ((bits_of(value) & 0x7f800000u) == 0x7f800000u) {
        return host->fail(LS_INVALID_CHECKPOINT, "weight is not finite");
      }
      if (piece->pass == 1) {
        if (magnitude > *largest) *largest = magnitude;
        continue;
      }
      const float q = round_half_even(value / scale);
      codes[row * layer->in + c] = (int8_t)(q > (float)levels    ? (float)levels
                                            : q < (float)-levels ? (float)-levels
                                                                 : q);
    }
  }
  return LS_OK;
}

static int32_t merge(const ls_session* session, void* into, const void* from) {
  for (uint64_t p = 0; p < session->layer->part_count; ++p) {
    const float other = ((const float*)from)[p];
    if (other > ((float*)into)[p]) ((float*)into)[p] = other;
  }
  return LS_OK;
}

static int32_t end(ls_session* session, const void* stat, uint32_t trouble) {
  (void)trouble;
  const int levels = (1 << (session->config->bits - 1)) - 1;
  float* scales = session->begin->stored[SCALE]->at;
  for (uint64_t p = 0; stat != NULL && p < session->layer->part_count; ++p) {
    scales[p] = scale_of(((const float*)stat)[p], levels);
  }
  free(session);
  return LS_OK;
}

static void abort_session(ls_session* session) { free(session); }

static void dequantize_rows(const ls_layer* layer, const int8_t* codes, const float* scales,
                            uint64_t begin_row, uint64_t count, float* out) {
  for (uint64_t p = 0; p < layer->part_count; ++p) {
    const ls_part* part = layer->parts[p];
    for (uint64_t r = 0; r < count; ++r) {
      const uint64_t row = begin_row + r;
      if (row < part->out_begin || row >= part->out_begin + part->out_count) continue;
      for (uint64_t c = 0; c < layer->in; ++c) {
        out[r * layer->in + c] = (float)codes[row * layer->in + c] * scales[p];
      }
    }
  }
}

static int32_t dequantize(const ls_config* config, const ls_layer* layer, const ls_rows* rows) {
  (void)config;
  REQUIRE(layer);
  REQUIRE(rows);
  for (uint64_t i = 0; i < rows->stored_count; ++i) REQUIRE(rows->stored[i]);
  if (rows->has_in_scale != NULL) *rows->has_in_scale = 0;
  dequantize_rows(layer, rows->stored[WEIGHT]->at, rows->stored[SCALE]->at, rows->row_begin,
                  rows->row_count, rows->out);
  return LS_OK;
}

/* ---- running -------------------------------------------------------------------------------- */

static int32_t bind(const ls_config* config, const ls_layer* layer, const ls_target* target,
                    uint64_t note, const ls_buffer* const* stored, uint64_t count, ls_bound** out) {
  REQUIRE(layer);
  REQUIRE(target);
  for (uint64_t i = 0; i < count; ++i) REQUIRE(stored[i]);
  if (note != (uint64_t)config->bits) {
    return host->fail(LS_INVALID_ARGUMENT, "found another note than planned");
  }
  *out = malloc(sizeof **out);
  if (*out == NULL) return host->fail(LS_RESOURCE, "out of memory");
  (*out)->layer = layer;
  (*out)->codes = stored[WEIGHT]->at;
  (*out)->scales = stored[SCALE]->at;
  return LS_OK;
}

static void unbind(ls_bound* bound) { free(bound); }

static int32_t variant(const ls_bound* bound, const ls_step* step, uint32_t* out) {
  (void)bound;
  REQUIRE(step);
  *out = 0;
  return LS_OK;
}

/* Activation: x as float32. Workspace: a block of dequantized rows, their products. */
static int32_t sizes(const ls_bound* bound, uint32_t which, uint64_t m, ls_sizes* out) {
  const uint64_t in = bound->layer->in;
  (void)which;
  REQUIRE(out);
  out->activation_nbytes = m * in * sizeof(float);
  out->workspace_nbytes = (BLOCK_ROWS * in + m * BLOCK_ROWS) * sizeof(float);
  out->key_nbytes = sizeof out->key;
  memcpy(out->key, "kept8 floats", 12);
  memcpy(out->key + 16, &in, sizeof in);
  return LS_OK;
}

struct widening {
  const ls_apply* call;
  uint64_t in;
};

static void widen_row(void* context, uint64_t i) {
  const struct widening* work = context;
  const ls_apply* call = work->call;
  for (uint64_t c = 0; c < work->in; ++c) {
    ((float*)call->activation)[i * work->in + c] =
        read_float(call->x_dtype, call->x, i * call->x_stride + c);
  }
}

static int32_t prepare(const ls_bound* bound, const ls_apply* call) {
  REQUIRE(call);
  struct widening work = {call, bound->layer->in};
  host->parallel_for(call->m, widen_row, &work);
  return LS_OK;
}

static int32_t apply(const ls_bound* bound, const ls_apply* call) {
  REQUIRE(call);
  const uint64_t in = bound->layer->in, out = bound->layer->out;
  float* w = call->workspace;
  float* y = w + BLOCK_ROWS * in;
  for (uint64_t row = 0; row < out; row += BLOCK_ROWS) {
    const uint64_t rows = out - row < BLOCK_ROWS ? out - row : BLOCK_ROWS;
    dequantize_rows(bound->layer, bound->codes, bound->scales, row, rows, w);
    ls_gemm gemm = {.struct_size = sizeof gemm, .dtype = LS_DTYPE_F32, .place = LS_PLACE_HOST};
    gemm.m = call->m;
    gemm.n = rows;
    gemm.k = in;
    gemm.x = call->activation;
    gemm.w = w;
    gemm.y = y;
    const int32_t status = host->gemm(&gemm);
    if (status != LS_OK) return status;
    for (uint64_t i = 0; i < call->m * rows; ++i) {
      const uint64_t column = row + i % rows;
      const float bias =
          call->bias == NULL ? 0.0f : read_float(call->bias_dtype, call->bias, column);
      write_float(call->y_dtype, call->y, i / rows * call->y_stride + column, y[i] + bias);
    }
  }
  return LS_OK;
}

/* ---- saving: each part's rows, and its scale ------------------------------------------------- */

static int32_t save_layer(const ls_config* config, const ls_layer* layer, uint64_t note,
                          ls_sink* sink) {
  (void)config;
  (void)note;
  REQUIRE(layer);
  for (uint32_t p = 0; p < layer->part_count; ++p) {
    REQUIRE(layer->parts[p]);
    ls_stored weight = {.struct_size = sizeof weight, .dtype = LS_DTYPE_I8, .rank = 2};
    ls_stored scale = {.struct_size = sizeof scale, .dtype = LS_DTYPE_F32, .rank = 1};
    weight.shape[0] = layer->parts[p]->out_count;
    weight.shape[1] = layer->in;
    weight.name = "weight";
    scale.shape[0] = 1;
    scale.name = "weight_scale";
    int32_t status = host->save_tensor(sink, &weight, p);
    if (status == LS_OK) status = host->save_tensor(sink, &scale, p);
    if (status != LS_OK) return status;
  }
  return LS_OK;
}

static int32_t save_read(const ls_config* config, const ls_layer* layer, uint64_t note,
                         const ls_buffer* const* stored, uint64_t count, uint64_t index,
                         uint64_t offset, uint64_t nbytes, void* out) {
  (void)config;
  (void)note;
  REQUIRE(layer);
  if (index / 2 >= layer->part_count || count != 2) {
    return host->fail(LS_INVALID_ARGUMENT, "saved tensor out of range");
  }
  const uint64_t first = index % 2 == WEIGHT ? layer->parts[index / 2]->out_begin * layer->in
                                             : index / 2 * sizeof(float);
  memcpy(out, (const char*)stored[index % 2]->at + first + offset, nbytes);
  return LS_OK;
}

static int32_t save_model(const ls_config* config, ls_sink* sink) {
  char json[] = "{\"quant_method\": \"kept8\", \"bits\": 8}";
  json[sizeof json - 3] = (char)('0' + config->bits);
  return host->save_declaration(sink, json);
}

/* ---- tables --------------------------------------------------------------------------------- */

static const ls_field bits_field = {.struct_size = sizeof bits_field,
                                    .type = LS_FIELD_INTEGER,
                                    .name = "bits",
                                    .doc = "bits of a code",
                                    .fallback = "8",
                                    .low = 2,
                                    .high = 8};
static const ls_field ignored_field = {.struct_size = sizeof ignored_field,
                                       .type = LS_FIELD_TEXTS,
                                       .name = "ignored_layers",
                                       .doc = "layers left unquantized",
                                       .fallback = "[]"};
static const ls_field* const fields[] = {&bits_field, &ignored_field};
static const ls_claim claim = {sizeof claim, 0, "quantization_config", "kept8", NULL, NULL};
static const ls_claim* const claims[] = {&claim};
static const char* const aliases[] = {"kept_integer"};

static const ls_method method = {
    .struct_size = sizeof method,
    .name = "kept8",
    .summary = "weight-only integers, one scale a part",
    .aliases = aliases,
    .alias_count = 1,
    .fields = fields,
    .field_count = 2,
    .claims = claims,
    .claim_count = 1,
    .read_declaration = read_declaration,
    .configure = configure,
    .config_destroy = config_destroy,
    .ignored = ignored,
    .plan_layer = plan_layer,
    .begin = begin,
    .feed = feed,
    .merge = merge,
    .end = end,
    .abort = abort_session,
    .dequantize = dequantize,
    .bind = bind,
    .unbind = unbind,
    .variant = variant,
    .sizes = sizes,
    .prepare = prepare,
    .apply = apply,
    .save_layer = save_layer,
    .save_read = save_read,
    .save_model = save_model,
};
static const ls_method* const methods[] = {&method};

static const ls_plugin plugin = {
    .struct_size = sizeof plugin,
    .abi_major = LS_ABI_MAJOR,
    .abi_minor = LS_ABI_MINOR,
    .name = "kept8",
    .version = "1.0.0",
    .licence = "Apache-2.0",
    .methods = methods,
    .method_count = 1,
};

const ls_plugin* loadstone_plugin_query(const ls_host* from) {
  /* Up to the last function that this file calls: a shorter host can't be lived with. */
  const size_t least = offsetof(ls_host, match) + sizeof(void*);
  if (from == NULL || from->struct_size < least || from->abi_major != LS_ABI_MAJOR) return NULL;
  host = from;
  return &plugin;
}
