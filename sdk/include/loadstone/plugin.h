/* loadstone plugin interface 0.1, the candidate for 1.0.
 *
 * A plugin is one shared library that exports one symbol, `loadstone_plugin_query`, and offers
 * quantization methods. Plain C11: no C++ type, no exception and no tensor library crosses here.
 *
 * Rules that hold everywhere
 * - Every struct begins with `struct_size` = sizeof as its writer knows it, in bytes. Fields are
 *   only ever appended; zero in an appended field means the behaviour before it. The receiver reads
 *   no further than the size says. Arrays of structs are arrays of pointers, so that a struct may
 *   grow. `reserved` is written as 0 and not read.
 * - Ownership: the host allocates every tensor and all scratch. The plugin owns its handles
 *   (ls_config, ls_session, ls_bound) until their destroy call, and its static tables for ever.
 * - Lifetime: what a function is handed lives until it returns, unless it says more. Config, layer
 *   and begin's arrays live until end or abort; config, layer and the stored tensors' bytes until
 *   unbind. Anything passed to a sink or to fail is copied by the host before that call returns.
 * - Threads: each function says in brackets what may run at once:
 *     [any]     on any thread, at once with everything, on one handle too
 *     [alone]   on any thread, but nothing else runs on the same handle meanwhile
 *   Functions that take a handle as const, and `feed`, are [any]; all else is [alone]. Different
 *   handles never wait for each other. A handle may move between threads.
 * - Errors: return host->fail(status, text). The host adds plugin, layer and tensor. A plugin never
 *   prints, exits, throws across this line, opens files or knows the model.
 * - Texts are UTF-8, null-terminated. Null means "" unless a field says otherwise.
 * - Numbers have the machine's byte order; tensors little-endian.
 * - Plans are pure: same input (values asked for included), same answer and same bytes, on every
 *   machine and at every thread count.
 * - A null or missing entry in a table means "can't".
 * - An opened library stays open until the process ends.
 */
#ifndef LOADSTONE_PLUGIN_H
#define LOADSTONE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Host and plugin must have equal majors; minors may differ either way. */
#define LS_ABI_MAJOR 0
#define LS_ABI_MINOR 1
#define LS_MAX_RANK 6

/* ---- numbers -------------------------------------------------------------------------------- */

/* Status of a call; any other number counts as LS_INTERNAL. */
enum {
  LS_OK = 0,
  LS_INVALID_ARGUMENT = 1,   /* the caller broke the interface's rules */
  LS_INVALID_CONFIG = 2,     /* a field's value */
  LS_INVALID_CHECKPOINT = 3, /* a tensor's presence, shape, dtype or content */
  LS_UNSUPPORTED = 4,        /* can't on this layer or target */
  LS_RESOURCE = 5,           /* out of memory */
  LS_CANCELLED = 6,          /* host->cancelled said so */
  LS_INTERNAL = 7            /* a defect of the plugin */
};

/* Dtype of a tensor; ggml block types are LS_DTYPE_GGML + ggml's type id. Sub-byte types are packed
 * along the last axis, the first element in the low bits; a row is a whole number of bytes. */
enum {
  LS_DTYPE_BOOL = 1,
  LS_DTYPE_U8 = 2,
  LS_DTYPE_I8 = 3,
  LS_DTYPE_I16 = 4,
  LS_DTYPE_U16 = 5,
  LS_DTYPE_I32 = 6,
  LS_DTYPE_U32 = 7,
  LS_DTYPE_I64 = 8,
  LS_DTYPE_U64 = 9,
  LS_DTYPE_F16 = 10,
  LS_DTYPE_BF16 = 11,
  LS_DTYPE_F32 = 12,
  LS_DTYPE_F64 = 13,
  LS_DTYPE_C64 = 14,     /* two F32: real, imaginary */
  LS_DTYPE_F8_E4M3 = 15, /* no infinities, NaN = 0x7f and 0xff, largest 448 */
  LS_DTYPE_F8_E5M2 = 16,
  LS_DTYPE_F8_E8M0 = 17, /* 2^(code - 127), 0xff = NaN */
  LS_DTYPE_F8_E4M3FNUZ = 18,
  LS_DTYPE_F8_E5M2FNUZ = 19,
  LS_DTYPE_F4 = 20,      /* E2M1, two a byte */
  LS_DTYPE_F6_E2M3 = 21, /* four in three bytes */
  LS_DTYPE_F6_E3M2 = 22,
  LS_DTYPE_GGML = 0x1000
};

/* Kind of a layer. */
enum {
  LS_KIND_LINEAR = 1,    /* y = x W^T + b, W is (out, in) row-major */
  LS_KIND_GROUPED = 2,   /* experts: `groups` matrices; x sorted by group, with each group's end */
  LS_KIND_GATHER = 3,    /* embedding: x is row numbers (int64), y the rows */
  LS_KIND_ATTENTION = 4, /* no apply; the attention seam reads its stored tensors by name */
  LS_KIND_OTHER = 5      /* convolution, norm: decode or keep */
};

/* What the host wants of a layer. */
enum {
  LS_WANT_QUANTIZE = 1, /* the method's own form: online from bf16/f16/f32, or as serialized */
  LS_WANT_DECODE = 2    /* plain floats of a serialized layer: a rule keeps it */
};

/* Verdict of plan_layer. */
enum {
  LS_VERDICT_QUANTIZE = 1,
  LS_VERDICT_DECODE = 2,
  LS_VERDICT_KEEP = 3,  /* not quantized in the file, or left alone by the method, see reason */
  LS_VERDICT_SPLIT = 4, /* parts disagree: the host makes a layer of each and asks again */
  LS_VERDICT_UNSUPPORTED = 5 /* the method can't do this layer; reason says why */
};

/* Mode of a source. */
enum {
  LS_SOURCE_RESIDENT = 1, /* whole in memory before the first piece (scales, zero points, g_idx) */
  LS_SOURCE_STREAMED = 2, /* fed in pieces of whole granules */
  LS_SOURCE_NEEDS_VALUE =
      3 /* ask again with the tensor's `value` filled in; at most 1 MiB a group */
};

enum { LS_PLACE_HOST = 1, LS_PLACE_CUDA = 2, LS_PLACE_ANY = 3 };

/* By host: the host reads the parts' "bias" tensors and adds them, or hands the sum to apply; the
 * method need not name them. By method: they are sources like any other. */
enum { LS_BIAS_BY_HOST = 1, LS_BIAS_BY_METHOD = 2 };

/* Kind of a target. */
enum { LS_TARGET_CPU = 1, LS_TARGET_CUDA = 2 };

/* Type of a field, and which member of a value holds it. */
enum {
  LS_FIELD_BOOL = 1,     /* integer 0 or 1 */
  LS_FIELD_INTEGER = 2,  /* integer */
  LS_FIELD_NUMBER = 3,   /* number */
  LS_FIELD_TEXT = 4,     /* text */
  LS_FIELD_INTEGERS = 5, /* integers[count] */
  LS_FIELD_TEXTS = 6,    /* texts[count] */
  LS_FIELD_TREE = 7      /* text: one JSON document */
};

/* How a pattern is matched against checkpoint module names. */
enum {
  LS_STYLE_EXACT = 1,
  LS_STYLE_SUFFIX = 2,   /* whole trailing path segments */
  LS_STYLE_GLOB = 3,     /* over the whole name: * ? [a-c] {a,b} {0..59} */
  LS_STYLE_REGEX = 4,    /* RE2 search */
  LS_STYLE_SEGMENTS = 5, /* consecutive whole path segments anywhere: "img_mlp" */
  LS_STYLE_PREFIX = 6    /* whole leading path segments */
};

enum { LS_SCOPE_KEEP = 1, LS_SCOPE_QUANTIZE = 2 };

enum { LS_LOG_DEBUG = 1, LS_LOG_INFO = 2, LS_LOG_WARNING = 3 };

/* ---- opaque --------------------------------------------------------------------------------- */

typedef struct ls_config ls_config;   /* plugin's: checked field values */
typedef struct ls_session ls_session; /* plugin's: one production of stored tensors */
typedef struct ls_bound ls_bound;     /* plugin's: a layer ready to apply */
typedef struct ls_sink ls_sink;       /* host's: collects answers; lives as long as the call */
typedef struct ls_node ls_node;       /* host's: read-only declaration tree; as long as the call */

/* ---- layers and their tensors: the host's, read-only ---------------------------------------- */

/* A checkpoint tensor of a layer. Lives as long as its layer. */
typedef struct ls_tensor {
  uint32_t struct_size;
  uint32_t dtype; /* LS_DTYPE_* as the file says */
  uint32_t rank;  /* 0..LS_MAX_RANK */
  uint32_t part;  /* index into layer->parts */
  uint32_t group; /* 0..layer->groups-1: the expert it belongs to, else 0 */
  uint32_t reserved;
  uint64_t shape[LS_MAX_RANK]; /* elements, outermost first; 1 beyond rank */
  uint64_t nbytes;             /* bytes, of the whole tensor */
  uint64_t row_nbytes;         /* bytes of one run of the last axis; nbytes for rank 0 */
  const char* name; /* below its part's module: "weight", "linear.weight"; "" = the module itself */
  const void* value; /* nbytes of content (needs_value, answered), else null; as long as the call */
} ls_tensor;

/* One checkpoint module inside the layer. Rows [out_begin, out_begin+out_count) of the layer are
 * rows [file_begin, file_begin+out_count) of the module's file_total rows. */
typedef struct ls_part {
  uint32_t struct_size;
  uint32_t group;                  /* the expert that it is a part of, else 0 */
  const char* name;                /* checkpoint module path inside the component */
  uint64_t out_begin, out_count;   /* rows of the group's matrix */
  uint64_t file_begin, file_total; /* rows of the module */
} ls_part;

/* Where and on what a layer will run. Lives as long as the call. */
typedef struct ls_target {
  uint32_t struct_size;
  uint32_t kind; /* LS_TARGET_* */
  uint32_t sm;   /* compute capability times 10: 80, 89, 90, 100; 0 on CPU */
  uint32_t reserved;
  const char* name; /* "cpu", "cuda:sm90": for texts */
} ls_target;

/* A layer as the model runs it: one matrix (or `groups` of them) made of one or more checkpoint
 * modules. A null text is "". */
typedef struct ls_layer {
  uint32_t struct_size;
  uint32_t kind;         /* LS_KIND_* */
  uint32_t load_dtype;   /* dtype of decoded weights, and of activations the layer will see */
  uint32_t has_bias;     /* 0 or 1 */
  uint32_t want;         /* LS_WANT_* */
  uint32_t groups;       /* matrices; 1 (or 0) but for LS_KIND_GROUPED */
  const char* component; /* "transformer": the model's name of the network */
  const char* path;      /* runtime path inside the component */
  const char* role;      /* "attention.q", "mlp.up"; "" if none */
  uint64_t out, in; /* rows and columns of a group's matrix; in may be 0 when only the method can
                       tell (packed) */
  const ls_part* const* parts;
  uint64_t part_count;
  const ls_tensor* const* tensors; /* all that the checkpoint holds below its parts' modules */
  uint64_t tensor_count;
} ls_layer;

/* ---- plan_layer's answers: the plugin's, copied by the host --------------------------------- */

/* Reads [row_begin, row_begin+row_count) of a tensor; a row is one run of the last axis, rows
 * counted over all leading axes. Rank-0 and rank-1 tensors are one row. */
typedef struct ls_source {
  uint32_t struct_size;
  uint32_t tensor; /* index into layer->tensors */
  uint32_t mode;   /* LS_SOURCE_* */
  uint32_t reserved;
  uint64_t tag;                  /* the method's own; comes back with each piece */
  uint64_t row_begin, row_count; /* rows; at least one */
  uint64_t granule; /* streamed: rows that must come together, counted from row_begin; the last
                       piece may hold fewer. 0 means 1 */
} ls_source;

/* A tensor that lives on in the loaded model. Its bytes are dense, row-major: the product of shape
 * by dtype; the host allocates them before begin. */
typedef struct ls_stored {
  uint32_t struct_size;
  uint32_t dtype;              /* LS_DTYPE_* */
  uint32_t rank;               /* 0..LS_MAX_RANK */
  uint32_t align;              /* bytes, a power of two up to 1 MiB; 0: 64 */
  uint64_t shape[LS_MAX_RANK]; /* elements, outermost first */
  const char* name; /* "weight", "weight_scale": unique within the layer, at most 200 bytes */
} ls_stored;

/* A stored tensor that equals blocks of a source byte for byte: `rows` runs of `row_nbytes`, from
 * src_offset + i*src_stride of the tensor to dst_offset + i*dst_stride of the stored one. Several
 * may fill one stored tensor; together they must cover it exactly once, or produce none of it.
 * With `checked` the pieces, once placed, are also fed read-only: the method may refuse them. */
typedef struct ls_identity {
  uint32_t struct_size;
  uint32_t stored;                 /* index, in the order of plan_stored */
  uint32_t tensor;                 /* index into layer->tensors */
  uint32_t checked;                /* 0 or 1 */
  uint64_t src_offset, dst_offset; /* bytes */
  uint64_t rows, row_nbytes;       /* runs, and bytes of each; at least 1 */
  uint64_t src_stride, dst_stride; /* bytes between runs, at least row_nbytes; any for one run */
  uint64_t tag;                    /* of the pieces fed when checked */
} ls_identity;

/* A kernel's own layout of one stored tensor, made after loading; canonical bytes are freed. At
 * most one wish for a stored tensor; bind then gets the packed bytes. */
typedef struct ls_repack {
  uint32_t struct_size;
  uint32_t stored; /* index */
  uint64_t nbytes; /* bytes of the packed form */
  uint64_t align;  /* bytes, a power of two up to 1 MiB; 0: 64 */
} ls_repack;

/* The verdict and what the work takes. */
typedef struct ls_work {
  uint32_t struct_size;
  uint32_t verdict;    /* LS_VERDICT_* */
  uint32_t passes;     /* 0 or 1; 2: every streamed source is fed twice, statistics first */
  uint32_t bias;       /* LS_BIAS_*; 0: by host */
  uint32_t produce_on; /* where pieces may be fed, LS_PLACE_*; 0: host */
  uint32_t reserved;
  uint64_t stat_nbytes;     /* bytes per group */
  uint64_t session_scratch; /* bytes per session */
  uint64_t feed_scratch;    /* bytes per running feed */
  uint64_t note;            /* the method's own; comes back in begin, rows, bind and save_* */
  const char* reason;       /* for keep, split, unsupported; may be "" otherwise */
  const char* kernel;       /* name of what apply will run on the target */
  /* What the conformance kit holds this answer to, W the float weight, Wq its dequantized form:
   * |Wq - W| <= max(weight_error * max|W| of the layer, 2^-32) (quantizing online), and, with xq
   * the activation as apply rounds it, |xq - x| <= activation_error * max|x|. 0: nothing is rounded
   * there. Infinity: no bound (a static scale that saturates). */
  double weight_error;
  double activation_error;
  uint64_t in; /* columns of a group's matrix, where layer->in was 0 (packed): must be told; else 0
                  or the same. Later calls see it as layer->in */
} ls_work;

/* ---- producing ------------------------------------------------------------------------------ */

/* Memory of the host: a stored tensor, a resident source, a packed form. */
typedef struct ls_buffer {
  uint32_t struct_size;
  uint32_t place;      /* LS_PLACE_HOST or LS_PLACE_CUDA */
  void* at;            /* stored: aligned as planned; resident: to the dtype's size at least */
  uint64_t nbytes;     /* bytes */
  uint64_t row_stride; /* bytes between rows; 0: dense */
} ls_buffer;

/* A session produces groups [group_begin, group_begin+group_count). Arrays are parallel to
 * plan_source's and plan_stored's calls; a resident buffer (needs_value: the value) is null for
 * streamed sources and for groups outside the session. All of it lives, unmoved, until end or
 * abort. Stored tensors are the layer's whole ones: a session writes its groups' share, but for
 * what identities fill. */
typedef struct ls_begin {
  uint32_t struct_size;
  uint32_t place; /* LS_PLACE_HOST or LS_PLACE_CUDA: of scratch, and of the pieces to come */
  uint32_t group_begin, group_count; /* groups */
  uint64_t note;                     /* of the answer */
  const ls_source* const* sources;
  const ls_buffer* const* resident; /* read-only; its rows are the source's row_begin and on */
  uint64_t source_count;
  const ls_buffer* const* stored; /* written; content undefined where no identity has filled it */
  uint64_t stored_count;
  void* scratch;     /* session_scratch bytes, 64-byte aligned, content undefined; null if 0 */
  void* stream;      /* cudaStream_t when place is CUDA, else null */
  uint32_t* trouble; /* device status word, zeroed by the host, or null; its value comes to end */
} ls_begin;

/* Whole granules of one source. `source` is an index into begin's sources; for a checked identity
 * it is UINT32_MAX and `identity` its index in the order of plan_identity. */
typedef struct ls_piece {
  uint32_t struct_size;
  uint32_t source;
  uint32_t identity; /* UINT32_MAX for pieces of a source */
  uint32_t pass;     /* 1, or 2 */
  uint32_t place;    /* LS_PLACE_* of `at` */
  uint32_t reserved;
  uint64_t tag;                  /* of the source or identity */
  uint64_t row_begin, row_count; /* rows of the tensor (identity: rows of its blocks) */
  uint64_t row_stride;           /* bytes, a multiple of the dtype's size */
  const void* at;  /* read-only, aligned to the dtype's size; lives until feed returns, on a device
                      until the stream has passed */
  uint64_t nbytes; /* bytes from `at` that may be read */
  void* stream;    /* cudaStream_t when place is CUDA, else null */
  void* scratch;   /* feed_scratch bytes, 64-byte aligned, of this running feed alone; null if 0 */
  void* stat; /* pass 1 of 2: this feed's statistics, stat_nbytes a group of the session, zeroed
                 by the host, written; pass 2: the merged ones, read; else null */
} ls_piece;

/* A range of rows of one group's matrix, from stored tensors. */
typedef struct ls_rows {
  uint32_t struct_size;
  uint32_t raw;   /* 0: W = raw·diag(in_scale) folded; 1: the stored basis, in_scale beside it */
  uint32_t group; /* 0..groups-1 */
  uint32_t place; /* LS_PLACE_* of the stored tensors and of the outputs */
  uint64_t note;  /* of the answer */
  uint64_t row_begin, row_count;  /* rows of the group's matrix */
  const ls_buffer* const* stored; /* canonical (never packed), read-only */
  uint64_t stored_count;
  void* stream;    /* cudaStream_t when place is CUDA, else null */
  float* out;      /* row_count × in, dense; written */
  float* in_scale; /* raw: `in` floats, written when the layer has an input scale; may be null */
  uint32_t* has_in_scale; /* raw: set to 0 or 1; may be null */
} ls_rows;

/* ---- running -------------------------------------------------------------------------------- */

/* The step that is about to run. */
typedef struct ls_step {
  uint32_t struct_size;
  uint32_t index;   /* denoising step, from 0 */
  uint32_t count;   /* of all steps; 0: unknown */
  uint32_t prefill; /* 1: a language model reads its prompt; else 0 */
} ls_step;

/* What apply needs for m rows: written by the method, no further than the struct_size it finds. */
typedef struct ls_sizes {
  uint32_t struct_size;
  uint32_t key_nbytes;        /* bytes of key that count, up to 32; 0: prepare is not shared */
  uint64_t workspace_nbytes;  /* bytes for apply and prepare */
  uint64_t activation_nbytes; /* bytes that prepare fills; 0: apply reads x itself, no prepare */
  uint8_t key[32]; /* digest over numeric, granularity, static scale, input scale; the rest
                      zero. Layers that read one x share what prepare made where keys are
                      equal: it must tell methods apart too */
} ls_sizes;

/* x is (m, in), y is (m, out), row strides in elements. Nothing inside allocates or synchronizes.
 * Memory is the target's and the host's, lives until the call returns (on a device until the stream
 * has passed); x and bias are read-only. */
typedef struct ls_apply {
  uint32_t struct_size;
  uint32_t variant;            /* what `variant` said for the step */
  uint32_t x_dtype, y_dtype;   /* F32, BF16 or F16; gather: x is I64 */
  uint64_t m;                  /* rows; may be 0 */
  uint64_t x_stride, y_stride; /* elements between rows; the last axis is dense */
  const void* x;
  void* y;
  const void* bias;    /* `out` values, or null: none, or the host adds it */
  uint32_t bias_dtype; /* F32, BF16 or F16 where bias isn't null */
  uint32_t reserved;
  const uint64_t* group_end; /* grouped: `groups` row ends, ascending, the last one m; else null */
  void* activation; /* activation_nbytes, 64-byte aligned: written by prepare, read by apply */
  void* workspace;  /* workspace_nbytes, 64-byte aligned, content undefined */
  void* stream;     /* cudaStream_t when the target is CUDA, else null */
} ls_apply;

/* y = x·wᵀ on plain floats, float32 accumulation; optional scales y[i][j] = x_scale·(w_scale·acc).
 * x (m,k), w (n,k), y (m,n), dense. dtype of x and w: F32, BF16, F16, F8_E4M3 or I8 (exact int32
 * accumulation); y is float32. */
typedef struct ls_gemm {
  uint32_t struct_size;
  uint32_t dtype;                /* LS_DTYPE_* of x and w */
  uint32_t place;                /* LS_PLACE_* of all pointers */
  uint32_t x_per_row, w_per_row; /* 1: m (n) scales, 0: one */
  uint32_t reserved;
  uint64_t m, n, k; /* elements */
  const void* x;
  const void* w;
  float* y;
  const float* x_scale; /* null: 1 */
  const float* w_scale; /* null: 1 */
  void* stream;         /* cudaStream_t when place is CUDA, else null */
} ls_gemm;

/* ---- configuration -------------------------------------------------------------------------- */

/* A field of a method: static data of the plugin, the only schema there is. The host checks type,
 * choices and range before configure sees a value. */
typedef struct ls_field {
  uint32_t struct_size;
  uint32_t type;              /* LS_FIELD_* */
  const char* name;           /* its key in configurations and flat declarations */
  const char* doc;            /* one line */
  const char* fallback;       /* the default as JSON text; null: none, the field may stay unset */
  const char* const* choices; /* texts allowed, or null */
  uint64_t choice_count;
  double low, high;       /* inclusive; both 0: any */
  uint32_t declared_only; /* 1: only a checkpoint's declaration may set it */
  uint32_t user_wins; /* 1: how to run, not what is stored: a user's value beats a declared one */
} ls_field;

/* A field's value. Unset fields without a default are not passed. The member that the type names
 * counts; pointers live as long as the call. */
typedef struct ls_value {
  uint32_t struct_size;
  uint32_t type;    /* LS_FIELD_* */
  const char* name; /* of the field */
  int64_t integer;
  double number;
  const char* text;
  const int64_t* integers;  /* null when count is 0 */
  const char* const* texts; /* null when count is 0 */
  uint64_t count;           /* items of integers or texts */
} ls_value;

/* Which declarations a method reads. Null matches anything; texts compare with case folded and
 * '-' = '_'. `origin`: "quantization_config", "hf_quant_config.json",
 * "quant_model_description.json", "gguf", "metadata:KEY" (safetensors header), "marker:SUFFIX"
 * (a tensor so named). `format` is the declaration's format / fmt / packing_format key, `algorithm`
 * its quant_algo, or AutoRound's data_type and bits ("mx_fp8"). Static data of the plugin, and
 * equal to the manifest's. */
typedef struct ls_claim {
  uint32_t struct_size;
  uint32_t reserved;
  const char* origin; /* never null */
  const char* quant_method;
  const char* format;
  const char* algorithm;
} ls_claim;

/* ---- tables --------------------------------------------------------------------------------- */

typedef struct ls_host ls_host;

/* The host's side. Lives until the process ends; entries beyond its struct_size are not there. */
struct ls_host {
  uint32_t struct_size;
  uint32_t abi_major, abi_minor; /* the host's */
  uint32_t reserved;

  /* Writes a line to the host's log; `level` is LS_LOG_*. [any] */
  void (*log)(uint32_t level, const char* text);
  /* Keeps `text` (copied, this thread's) as the reason of the failing call; returns `status`. Also
   * inside parallel_for's bodies: then for the call that lent the threads. [any] */
  int32_t (*fail)(int32_t status, const char* text);
  /* Runs body(context, i) for i in [0, count) on the host's threads; returns when all are done. The
   * body must not throw. `context` is the plugin's, untouched. [any] */
  void (*parallel_for)(uint64_t count, void (*body)(void* context, uint64_t i), void* context);
  /* 1 when the user asked to stop: return LS_CANCELLED soon. Poll it in long work. [any] */
  int32_t (*cancelled)(void);
  /* The host's product, in place of a kernel; see ls_gemm. [any] */
  int32_t (*gemm)(const ls_gemm*);

  /* For plan_layer, with the sink it got. Any order, but plan_work is called exactly once. Indices
   * count calls of one kind from 0. What is wrong with an answer is said after plan_layer returns.
   * [alone] */
  int32_t (*plan_source)(ls_sink*, const ls_source*);
  int32_t (*plan_stored)(ls_sink*, const ls_stored*);
  int32_t (*plan_identity)(ls_sink*, const ls_identity*);
  int32_t (*plan_repack)(ls_sink*, const ls_repack*);
  /* A tensor that is neither read nor named here is an error; `reason` isn't empty. */
  int32_t (*plan_unused)(ls_sink*, uint32_t tensor, const char* reason);
  int32_t (*plan_work)(ls_sink*, const ls_work*);

  /* For read_declaration. Node strings live as long as the node. [any] */
  const ls_node* (*node_get)(const ls_node*, const char* key); /* map; null if absent */
  const ls_node* (*node_at)(const ls_node*, uint64_t index,
                            const char** key); /* list or map item */
  uint64_t (*node_count)(const ls_node*);      /* items of a list or map, else 0 */
  const char* (*node_text)(const ls_node*); /* scalar as text, list or map as JSON; null for null */
  /* 0 null, LS_FIELD_BOOL, INTEGER, NUMBER or TEXT, LS_FIELD_TEXTS any list, LS_FIELD_TREE a map */
  uint32_t (*node_kind)(const ls_node*);

  /* For read_declaration, with the sink it got. [alone]
   * Sets a field, for all layers (pattern null) or those that match. Later calls win over earlier
   * ones of equal or wider scope; exact beats suffix beats others. */
  int32_t (*declare_field)(ls_sink*, const char* pattern, uint32_t style, const ls_value*);
  /* Keeps or quantizes the modules that match; without any QUANTIZE scope all others are. */
  int32_t (*declare_scope)(ls_sink*, const char* pattern, uint32_t style, uint32_t scope);

  /* For save_layer: a serialized tensor of part number `part`, named below its module. [alone] */
  int32_t (*save_tensor)(ls_sink*, const ls_stored*, uint32_t part);
  /* For save_model: the declaration, a JSON map. The last call counts. [alone] */
  int32_t (*save_declaration)(ls_sink*, const char* json);

  /* Whether `text` matches `pattern` in a style of LS_STYLE_*: 1 or 0; minus a status (with fail's
   * text) when the pattern is malformed. For regexes, of which plugins need no engine. [any] */
  int32_t (*match)(uint32_t style, const char* pattern, const char* text);
};

/* A method: static data of the plugin, lives until the process ends, never changes. Functions
 * that don't return void return a status. Always there: configure, config_destroy, plan_layer;
 * read_declaration where there are claims. The rest as far as the method's plans need it, in whole
 * groups: begin, end, abort (feed, merge); bind, unbind, sizes, apply; save_layer, save_read. The
 * layer is the same content in every call about it, not the same address. */
typedef struct ls_method {
  uint32_t struct_size;
  uint32_t reserved;
  const char* name;           /* "fp8": lower case, [a-z0-9_] */
  const char* summary;        /* one line */
  const char* const* aliases; /* other names for it, or null */
  uint64_t alias_count;
  const ls_field* const* fields; /* null if there are none */
  uint64_t field_count;
  const ls_claim* const* claims; /* null if there are none */
  uint64_t claim_count;

  /* A declaration that claim number `claim` matched. [any] */
  int32_t (*read_declaration)(const ls_node*, uint64_t claim, ls_sink*);
  /* Defaults are among the values. *out is the plugin's until config_destroy. [any] */
  int32_t (*configure)(const ls_value* const* values, uint64_t count, ls_config** out);
  /* Once for each configure that succeeded, after all sessions and bounds made with it. [alone] */
  void (*config_destroy)(ls_config*);
  /* Whether the configuration leaves the layer alone. *entry: the entry that matched (owned by
   * config), or null. [any] */
  int32_t (*ignored)(const ls_config*, const ls_layer*, const char** entry);
  /* Looks at one layer and answers through the sink. [any] */
  int32_t (*plan_layer)(const ls_config*, const ls_layer*, const ls_target*, ls_sink*);

  /* *out is the plugin's until end or abort. Resident sources are in place. [any] */
  int32_t (*begin)(const ls_config*, const ls_layer*, const ls_begin*, ls_session** out);
  /* A piece, in any order and cutting; each row of each streamed source comes once a pass, all of
   * pass 1 (merged) before any of pass 2. On a device it only enqueues. [any] */
  int32_t (*feed)(ls_session*, const ls_piece*);
  /* into ← into ∪ from, both stat_nbytes a group of the session; zero bytes are neutral. Exact, so
   * that any order gives the same bytes. The host lets only one merge at a time write to `into`.
   * [any] */
  int32_t (*merge)(const ls_session*, void* into, const void* from);
  /* After all pieces; stored tensors are complete when it returns. `stat`: the merged statistics,
   * or null. `trouble` is the device status word's value (0 on the host). Frees the session,
   * whatever it returns. [alone] */
  int32_t (*end)(ls_session*, const void* stat, uint32_t trouble);
  /* Instead of end after a failure or cancel. Both free the session. [alone] */
  void (*abort)(ls_session*);

  /* Any rows of any group, bit for bit those of the whole. [any] */
  int32_t (*dequantize)(const ls_config*, const ls_layer*, const ls_rows*);
  /* canonical → packed (inverse 0) or back: reads the one, writes the other. Index of the wish in
   * plan_repack's order. [any] */
  int32_t (*repack)(const ls_config*, const ls_layer*, uint64_t wish, uint32_t inverse,
                    const ls_buffer* canonical, const ls_buffer* packed, void* stream);

  /* A layer ready to run. The array of buffers lives as long as the call, the bytes they point to,
   * config and layer until unbind. *out is the plugin's until unbind. [any] */
  int32_t (*bind)(const ls_config*, const ls_layer*, const ls_target*, uint64_t note,
                  const ls_buffer* const* stored, uint64_t stored_count, ls_bound** out);
  void (*unbind)(ls_bound*); /* [alone] */
  /* Which kernels a step uses, as a small number. Null: 0 at each step. [any] */
  int32_t (*variant)(const ls_bound*, const ls_step*, uint32_t* out);
  /* A pure function of variant and m. [any] */
  int32_t (*sizes)(const ls_bound*, uint32_t variant, uint64_t m, ls_sizes* out);
  /* Fills call->activation from x: where sizes gave activation bytes, before apply. [any] */
  int32_t (*prepare)(const ls_bound*, const ls_apply*);
  /* On a device it only enqueues. [any] */
  int32_t (*apply)(const ls_bound*, const ls_apply*);

  /* Names the serialized tensors, part by part. [any] */
  int32_t (*save_layer)(const ls_config*, const ls_layer*, uint64_t note, ls_sink*);
  /* nbytes of serialized tensor `index` (save_tensor's order) from byte `offset`. Canonical stored
   * tensors on the host, read-only; `out` takes nbytes. [any] */
  int32_t (*save_read)(const ls_config*, const ls_layer*, uint64_t note,
                       const ls_buffer* const* stored, uint64_t stored_count, uint64_t index,
                       uint64_t offset, uint64_t nbytes, void* out);
  /* The declaration under which a saved model is read again. [any] */
  int32_t (*save_model)(const ls_config*, ls_sink*);
} ls_method;

/* The descriptor: static data, lives until the process ends, never changes. */
typedef struct ls_plugin {
  uint32_t struct_size;
  uint32_t abi_major, abi_minor; /* LS_ABI_* that it was compiled with; the manifest's too */
  uint32_t reserved;
  const char* name;    /* equals the file's stem */
  const char* version; /* "1.0.0": the manifest's too */
  const char* licence; /* SPDX: the manifest's too */
  const ls_method* const* methods;
  uint64_t method_count; /* 1 to 64 */
} ls_plugin;

/* The one exported symbol. Returns a static descriptor, or null for a host the plugin can't live
 * with (fail's text says why). The host pointer stays valid until the process ends. May be called
 * more than once, and answers the same. [alone] */
#if defined(__GNUC__)
#define LS_EXPORT __attribute__((visibility("default")))
#else
#define LS_EXPORT
#endif
LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host);
typedef const ls_plugin* (*ls_plugin_query_fn)(const ls_host*);

#ifdef __cplusplus
}
#endif

#endif /* LOADSTONE_PLUGIN_H */
