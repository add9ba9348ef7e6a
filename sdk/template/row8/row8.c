/* row8: weight-only int8 with one float32 scale a row, in plain C against loadstone/plugin.h alone.
 *
 *   scale = max|w| / 127 over the row (1 for a row of zeros)
 *   q     = clamp(round_half_even(w / scale), -127, 127)
 *   wq    = q * scale
 *
 * Stored (and serialized): weight I8 [out, in], weight_scale F32 [out]. */
#include <loadstone/plugin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STORED_WEIGHT = 0, STORED_SCALE = 1, BLOCK_ROWS = 64 };

struct ls_config {
  int unused;
};
struct ls_session {
  const ls_layer* layer;
  const ls_begin* begin;
};
struct ls_bound {
  const ls_layer* layer;
  const int8_t* codes;
  const float* scales;
};

static const ls_host* host;

/* A struct that is shorter than the one this file was compiled with can't be read. */
#define KNOWN(pointer) ((pointer) != NULL && (pointer)->struct_size >= sizeof *(pointer))
#define REQUIRE(pointer)                                                                     \
  do {                                                                                       \
    if (!KNOWN(pointer)) return host->fail(LS_INVALID_ARGUMENT, "call rejected: " #pointer); \
  } while (0)

/* ---- floats --------------------------------------------------------------------------------- */

static int is_float(uint32_t dtype) {
  return dtype == LS_DTYPE_F32 || dtype == LS_DTYPE_BF16 || dtype == LS_DTYPE_F16;
}

static float half_to_float(uint16_t half) {
  const int exponent = (half >> 10) & 31, mantissa = half & 1023;
  float value;
  if (exponent == 31) {
    value = mantissa != 0 ? NAN : INFINITY;
  } else {
    value = exponent == 0 ? ldexpf((float)mantissa, -24)
                          : ldexpf((float)(mantissa + 1024), exponent - 25);
  }
  return (half & 0x8000) != 0 ? -value : value;
}

/* Value `i` of a float tensor. */
static float read_float(uint32_t dtype, const void* from, uint64_t i) {
  float value;
  uint32_t bits;
  if (dtype == LS_DTYPE_F32) {
    memcpy(&value, (const float*)from + i, sizeof value);
    return value;
  }
  if (dtype == LS_DTYPE_F16) return half_to_float(((const uint16_t*)from)[i]);
  bits = (uint32_t)((const uint16_t*)from)[i] << 16;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static uint16_t float_to_half(float value) {
  uint32_t bits, magnitude, shifted_bits;
  float absolute;
  memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
  magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (magnitude < 0x38800000u) { /* subnormal: adding 0.5 aligns and rounds */
    memcpy(&absolute, &magnitude, sizeof absolute);
    absolute += 0.5f;
    memcpy(&shifted_bits, &absolute, sizeof shifted_bits);
    return (uint16_t)(sign | (shifted_bits - 0x3f000000u));
  }
  magnitude += 0xfffu + ((magnitude >> 13) & 1u);
  return (uint16_t)(sign | ((magnitude - 0x38000000u) >> 13));
}

static void write_float(uint32_t dtype, void* to, uint64_t i, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (dtype == LS_DTYPE_F32) {
    ((float*)to)[i] = value;
  } else if (dtype == LS_DTYPE_F16) {
    ((uint16_t*)to)[i] = float_to_half(value);
  } else {
    ((uint16_t*)to)[i] = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
}

/* ---- configuration -------------------------------------------------------------------------- */

static int32_t configure(const ls_value* const* values, uint64_t count, ls_config** out) {
  (void)values;
  (void)count;
  *out = calloc(1, sizeof **out);
  return *out != NULL ? LS_OK : host->fail(LS_RESOURCE, "out of memory");
}

static void config_destroy(ls_config* config) { free(config); }

static int32_t read_declaration(const ls_node* node, uint64_t claim, ls_sink* sink) {
  (void)node; /* there is nothing to say but the method's name */
  (void)claim;
  (void)sink;
  return LS_OK;
}

/* ---- planning ------------------------------------------------------------------------------- */

static int32_t verdict(ls_sink* sink, uint32_t which, const char* reason) {
  ls_work work = {.struct_size = sizeof work};
  work.verdict = which;
  work.reason = reason;
  return host->plan_work(sink, &work);
}

static const ls_tensor* find(const ls_layer* layer, uint32_t part, const char* name,
                             uint32_t* index) {
  for (uint64_t i = 0; i < layer->tensor_count; ++i) {
    const ls_tensor* tensor = layer->tensors[i];
    if (!KNOWN(tensor) || tensor->part != part || strcmp(tensor->name, name) != 0) continue;
    *index = (uint32_t)i;
    return tensor;
  }
  return NULL;
}

static int32_t plan_stored(const ls_layer* layer, ls_sink* sink) {
  ls_stored weight = {.struct_size = sizeof weight}, scale = {.struct_size = sizeof scale};
  weight.dtype = LS_DTYPE_I8;
  weight.rank = 2;
  weight.shape[0] = layer->out;
  weight.shape[1] = layer->in;
  weight.name = "weight";
  scale.dtype = LS_DTYPE_F32;
  scale.rank = 1;
  scale.shape[0] = layer->out;
  scale.name = "weight_scale";
  const int32_t status = host->plan_stored(sink, &weight);
  return status != LS_OK ? status : host->plan_stored(sink, &scale);
}

/* A part as the file holds it: floats to quantize, or codes and scales to take as they are. */
static int32_t plan_part(const ls_layer* layer, uint32_t p, int* serialized, ls_sink* sink) {
  const ls_part* part = layer->parts[p];
  uint32_t at = 0, scale_at = 0;
  const ls_tensor* weight = find(layer, p, "weight", &at);
  const ls_tensor* scale = find(layer, p, "weight_scale", &scale_at);
  REQUIRE(part);
  REQUIRE(weight);
  if (is_float(weight->dtype)) {
    ls_source source = {.struct_size = sizeof source};
    source.tensor = at;
    source.mode = LS_SOURCE_STREAMED;
    source.row_begin = part->file_begin;
    source.row_count = part->out_count;
    return host->plan_source(sink, &source);
  }
  if (weight->dtype != LS_DTYPE_I8 || scale == NULL || scale->dtype != LS_DTYPE_F32 ||
      scale->rank != 1 || scale->shape[0] != part->file_total) {
    return host->fail(LS_INVALID_CHECKPOINT,
                      "weight without scale: expected weight_scale as F32 [rows]");
  }
  ++*serialized;
  ls_identity rows = {.struct_size = sizeof rows};
  rows.stored = STORED_WEIGHT;
  rows.tensor = at;
  rows.src_offset = part->file_begin * layer->in;
  rows.dst_offset = part->out_begin * layer->in;
  rows.rows = 1;
  rows.row_nbytes = part->out_count * layer->in;
  const int32_t status = host->plan_identity(sink, &rows);
  if (status != LS_OK) return status;
  rows.stored = STORED_SCALE;
  rows.tensor = scale_at;
  rows.src_offset = part->file_begin * sizeof(float);
  rows.dst_offset = part->out_begin * sizeof(float);
  rows.row_nbytes = part->out_count * sizeof(float);
  return host->plan_identity(sink, &rows);
}

static int32_t plan_layer(const ls_config* config, const ls_layer* layer, const ls_target* target,
                          ls_sink* sink) {
  int serialized = 0;
  uint32_t unused;
  (void)config;
  REQUIRE(layer);
  REQUIRE(target);
  if (target->kind != LS_TARGET_CPU) {
    return verdict(sink, LS_VERDICT_UNSUPPORTED, "runs on the CPU alone");
  }
  if (layer->kind != LS_KIND_LINEAR) {
    return verdict(sink, LS_VERDICT_UNSUPPORTED, "quantizes linear layers alone");
  }
  for (uint32_t p = 0; p < layer->part_count; ++p) {
    const ls_tensor* weight = find(layer, p, "weight", &unused);
    if (weight == NULL || weight->rank != 2 || weight->shape[1] != layer->in) {
      return verdict(sink, LS_VERDICT_UNSUPPORTED, "needs a matrix of the layer's width");
    }
    if (layer->want == LS_WANT_DECODE && is_float(weight->dtype)) {
      return verdict(sink, LS_VERDICT_KEEP, "not quantized in the checkpoint");
    }
  }
  if (layer->want == LS_WANT_DECODE) {
    return verdict(sink, LS_VERDICT_UNSUPPORTED, "this template doesn't decode");
  }
  int32_t status = plan_stored(layer, sink);
  for (uint32_t p = 0; p < layer->part_count && status == LS_OK; ++p) {
    status = plan_part(layer, p, &serialized, sink);
  }
  if (status != LS_OK) return status;
  if (serialized != 0 && serialized != (int)layer->part_count) {
    return verdict(sink, LS_VERDICT_SPLIT, "some parts are serialized, some are not");
  }
  ls_work work = {.struct_size = sizeof work};
  work.verdict = LS_VERDICT_QUANTIZE;
  work.kernel = "row8_blockwise";
  work.weight_error = serialized != 0 ? 0 : 0.5 / 127 * 1.00001;
  return host->plan_work(sink, &work);
}

/* ---- producing ------------------------------------------------------------------------------ */

static int32_t begin(const ls_config* config, const ls_layer* layer, const ls_begin* arrays,
                     ls_session** out) {
  (void)config;
  REQUIRE(layer);
  REQUIRE(arrays);
  for (uint64_t i = 0; i < arrays->stored_count; ++i) REQUIRE(arrays->stored[i]);
  *out = malloc(sizeof **out);
  if (*out == NULL) return host->fail(LS_RESOURCE, "out of memory");
  (*out)->layer = layer;
  (*out)->begin = arrays;
  return LS_OK;
}

static int32_t feed(ls_session* session, const ls_piece* piece) {
  REQUIRE(piece);
  const ls_layer* layer = session->layer;
  const ls_tensor* tensor = layer->tensors[session->begin->sources[piece->source]->tensor];
  const ls_part* part = layer->parts[tensor->part];
  int8_t* codes = session->begin->stored[STORED_WEIGHT]->at;
  float* scales = session->begin->stored[STORED_SCALE]->at;
  for (uint64_t r = 0; r < piece->row_count; ++r) {
    const void* from = (const char*)piece->at + r * piece->row_stride;
    const uint64_t row = part->out_begin + piece->row_begin + r - part->file_begin;
    float amax = 0;
    for (uint64_t c = 0; c < layer->in; ++c) {
      const float value = read_float(tensor->dtype, from, c);
      if (!isfinite(value)) return host->fail(LS_INVALID_CHECKPOINT, "weight is not finite");
      amax = fmaxf(amax, fabsf(value));
    }
    const float scale = amax / 127.0f < 0x1p-126f ? 1.0f : amax / 127.0f;
    scales[row] = scale;
    for (uint64_t c = 0; c < layer->in; ++c) {
      const float q = nearbyintf(read_float(tensor->dtype, from, c) / scale);
      codes[row * layer->in + c] = (int8_t)fminf(fmaxf(q, -127.0f), 127.0f);
    }
  }
  return LS_OK;
}

static int32_t end(ls_session* session, const void* stat, uint32_t trouble) {
  (void)stat;
  (void)trouble;
  free(session);
  return LS_OK;
}

static void abort_session(ls_session* session) { free(session); }

static void dequantize_rows(const int8_t* codes, const float* scales, uint64_t in, uint64_t begin,
                            uint64_t count, float* out) {
  for (uint64_t i = 0; i < count * in; ++i) {
    out[i] = (float)codes[begin * in + i] * scales[begin + i / in];
  }
}

static int32_t dequantize(const ls_config* config, const ls_layer* layer, const ls_rows* rows) {
  (void)config;
  REQUIRE(layer);
  REQUIRE(rows);
  for (uint64_t i = 0; i < rows->stored_count; ++i) REQUIRE(rows->stored[i]);
  if (rows->has_in_scale != NULL) *rows->has_in_scale = 0;
  dequantize_rows(rows->stored[STORED_WEIGHT]->at, rows->stored[STORED_SCALE]->at, layer->in,
                  rows->row_begin, rows->row_count, rows->out);
  return LS_OK;
}

/* ---- running -------------------------------------------------------------------------------- */

static int32_t bind(const ls_config* config, const ls_layer* layer, const ls_target* target,
                    uint64_t note, const ls_buffer* const* stored, uint64_t count, ls_bound** out) {
  (void)config;
  (void)note;
  REQUIRE(layer);
  REQUIRE(target);
  for (uint64_t i = 0; i < count; ++i) REQUIRE(stored[i]);
  *out = malloc(sizeof **out);
  if (*out == NULL) return host->fail(LS_RESOURCE, "out of memory");
  (*out)->layer = layer;
  (*out)->codes = stored[STORED_WEIGHT]->at;
  (*out)->scales = stored[STORED_SCALE]->at;
  return LS_OK;
}

static void unbind(ls_bound* bound) { free(bound); }

static int32_t variant(const ls_bound* bound, const ls_step* step, uint32_t* out) {
  (void)bound;
  REQUIRE(step);
  *out = 0;
  return LS_OK;
}

/* The workspace: x as float32, a block of dequantized rows, their products. */
static int32_t sizes(const ls_bound* bound, uint32_t which, uint64_t m, ls_sizes* out) {
  const uint64_t in = bound->layer->in;
  (void)which;
  REQUIRE(out);
  out->workspace_nbytes = (m * in + BLOCK_ROWS * in + m * BLOCK_ROWS) * sizeof(float);
  return LS_OK;
}

static int32_t apply(const ls_bound* bound, const ls_apply* call) {
  REQUIRE(call);
  const uint64_t in = bound->layer->in, out = bound->layer->out;
  float* x = call->workspace;
  float* w = x + call->m * in;
  float* y = w + BLOCK_ROWS * in;
  for (uint64_t i = 0; i < call->m; ++i) {
    for (uint64_t c = 0; c < in; ++c) {
      x[i * in + c] = read_float(call->x_dtype, call->x, i * call->x_stride + c);
    }
  }
  for (uint64_t row = 0; row < out; row += BLOCK_ROWS) {
    const uint64_t rows = out - row < BLOCK_ROWS ? out - row : BLOCK_ROWS;
    dequantize_rows(bound->codes, bound->scales, in, row, rows, w);
    ls_gemm gemm = {.struct_size = sizeof gemm};
    gemm.dtype = LS_DTYPE_F32;
    gemm.place = LS_PLACE_HOST;
    gemm.m = call->m;
    gemm.n = rows;
    gemm.k = in;
    gemm.x = x;
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

/* ---- saving: each part's rows of both stored tensors ------------------------------------------
 */

static int32_t save_layer(const ls_config* config, const ls_layer* layer, uint64_t note,
                          ls_sink* sink) {
  (void)config;
  (void)note;
  REQUIRE(layer);
  for (uint32_t p = 0; p < layer->part_count; ++p) {
    REQUIRE(layer->parts[p]);
    ls_stored tensor = {.struct_size = sizeof tensor};
    tensor.dtype = LS_DTYPE_I8;
    tensor.rank = 2;
    tensor.shape[0] = layer->parts[p]->out_count;
    tensor.shape[1] = layer->in;
    tensor.name = "weight";
    int32_t status = host->save_tensor(sink, &tensor, p);
    tensor.dtype = LS_DTYPE_F32;
    tensor.rank = 1;
    tensor.name = "weight_scale";
    if (status == LS_OK) status = host->save_tensor(sink, &tensor, p);
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
  const ls_part* part = layer->parts[index / 2];
  const uint64_t row_nbytes = index % 2 == STORED_WEIGHT ? layer->in : sizeof(float);
  memcpy(out, (const char*)stored[index % 2]->at + part->out_begin * row_nbytes + offset, nbytes);
  return LS_OK;
}

static int32_t save_model(const ls_config* config, ls_sink* sink) {
  (void)config;
  return host->save_declaration(sink, "{\"quant_method\": \"row8\"}");
}

/* ---- tables --------------------------------------------------------------------------------- */

static const ls_claim claim = {sizeof claim, 0, "quantization_config", "row8", NULL, NULL};
static const ls_claim* const claims[] = {&claim};

static const ls_method method = {
    .struct_size = sizeof method,
    .name = "row8",
    .summary = "weight-only int8, one scale a row, in plain C",
    .claims = claims,
    .claim_count = 1,
    .read_declaration = read_declaration,
    .configure = configure,
    .config_destroy = config_destroy,
    .plan_layer = plan_layer,
    .begin = begin,
    .feed = feed,
    .end = end,
    .abort = abort_session,
    .dequantize = dequantize,
    .bind = bind,
    .unbind = unbind,
    .variant = variant,
    .sizes = sizes,
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
    .name = "row8",
    .version = "0.1.0",
    .licence = "Apache-2.0",
    .methods = methods,
    .method_count = 1,
};

const ls_plugin* loadstone_plugin_query(const ls_host* from) {
  /* Up to the last function that this file calls: a shorter host can't be lived with. */
  const size_t least = offsetof(ls_host, save_declaration) + sizeof(void*);
  if (from == NULL || from->struct_size < least || from->abi_major != LS_ABI_MAJOR) return NULL;
  host = from;
  return &plugin;
}
