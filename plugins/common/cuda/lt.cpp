#include "common/cuda/lt.hpp"

#include <cublasLt.h>
#include <dlfcn.h>

#include "common/cuda/launch.hpp"

namespace loadstone::common::cuda {
namespace {

/// The functions used, from the library that the process has or finds.
struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;

  Library() {
    void* at = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (at == nullptr) {
      sdk::fail(LS_UNSUPPORTED, std::string("product on CUDA: found no libcublasLt.so.13 (") +
                                    dlerror() + "), expected it on the library path");
    }
    find(at, "cublasLtCreate", create);
    find(at, "cublasLtMatmul", matmul);
    find(at, "cublasLtMatmulDescCreate", desc_create);
    find(at, "cublasLtMatmulDescDestroy", desc_destroy);
    find(at, "cublasLtMatmulDescSetAttribute", desc_set);
    find(at, "cublasLtMatrixLayoutCreate", layout_create);
    find(at, "cublasLtMatrixLayoutDestroy", layout_destroy);
    find(at, "cublasLtMatmulPreferenceCreate", preference_create);
    find(at, "cublasLtMatmulPreferenceDestroy", preference_destroy);
    find(at, "cublasLtMatmulPreferenceSetAttribute", preference_set);
    find(at, "cublasLtMatmulAlgoGetHeuristic", heuristic);
  }
  static const Library& get() {
    static const Library one;
    return one;
  }

 private:
  template <typename F>
  static void find(void* library, const char* name, F& out) {
    out = reinterpret_cast<F>(dlsym(library, name));
    if (out == nullptr) {
      sdk::fail(LS_UNSUPPORTED, std::string("product on CUDA: libcublasLt.so.13 has no ") + name);
    }
  }
};

void require(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  sdk::fail(LS_INTERNAL, std::string(what) + " failed: cublas status " +
                             std::to_string(static_cast<int>(status)));
}

cudaDataType_t type_of(uint32_t dtype) {
  switch (dtype) {
    case LS_DTYPE_F32:
      return CUDA_R_32F;
    case LS_DTYPE_F16:
      return CUDA_R_16F;
    case LS_DTYPE_BF16:
      return CUDA_R_16BF;
    case LS_DTYPE_I8:
      return CUDA_R_8I;
    case LS_DTYPE_I32:
      return CUDA_R_32I;
    case LS_DTYPE_F8_E5M2:
      return CUDA_R_8F_E5M2;
    default:
      return CUDA_R_8F_E4M3;
  }
}

bool is_fp8(uint32_t dtype) { return dtype == LS_DTYPE_F8_E4M3 || dtype == LS_DTYPE_F8_E5M2; }

cublasLtMatmulMatrixScale_t mode_of(Scaling scaling, bool weight) {
  if (scaling == Scaling::rows) return CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
  return weight ? CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F
                : CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
}

}  // namespace

/// cublasLt counts columns first: it computes yᵀ = W·xᵀ with W as its A.
struct LtProduct::Entry {
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulAlgo_t algo{};
  bool found = false;

  Entry(cublasLtHandle_t handle, const LtShape& s) {
    const Library& lt = Library::get();
    require(lt.layout_create(&a, type_of(s.w_dtype), s.k, s.n, static_cast<int64_t>(s.w_ld)),
            "layout");
    require(lt.layout_create(&b, type_of(s.x_dtype), s.k, s.m, static_cast<int64_t>(s.x_ld)),
            "layout");
    require(lt.layout_create(&d, type_of(s.y_dtype), s.n, s.m, static_cast<int64_t>(s.y_ld)),
            "layout");
    // The search looks at pointers' alignment: of a bias that isn't at 16 bytes it finds slow
    // algorithms (bf16: three times) or none (fp8).
    alignas(256) static const float placeholder = 1;
    const cublasLtMatmulDesc_t desc = describe(
        s, {nullptr, nullptr, &placeholder, &placeholder, &placeholder, nullptr, nullptr, nullptr});
    cublasLtMatmulPreference_t preference = nullptr;
    require(lt.preference_create(&preference), "preference");
    const uint64_t room = kWorkspace;
    lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room);
    for (const auto which :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      lt.preference_set(preference, which, &s.alignment, sizeof s.alignment);
    }
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    const cublasStatus_t status =
        lt.heuristic(handle, desc, a, b, d, d, preference, 1, &best, &count);
    found = status == CUBLAS_STATUS_SUCCESS && count > 0;
    if (found) algo = best.algo;
    lt.preference_destroy(preference);
    lt.desc_destroy(desc);
  }
  ~Entry() {
    const Library& lt = Library::get();
    for (const cublasLtMatrixLayout_t one : {a, b, d}) {
      if (one != nullptr) lt.layout_destroy(one);
    }
  }

  static cublasLtMatmulDesc_t describe(const LtShape& s, const LtCall& call) {
    const Library& lt = Library::get();
    const bool exact = s.y_dtype == LS_DTYPE_I32;
    cublasLtMatmulDesc_t out = nullptr;
    require(lt.desc_create(&out, exact ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                           exact ? CUDA_R_32I : CUDA_R_32F),
            "product");
    const auto set = [&](cublasLtMatmulDescAttributes_t name, const auto& value) {
      require(lt.desc_set(out, name, &value, sizeof value), "product attribute");
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
    if (s.scaling != Scaling::none) {
      set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode_of(s.scaling, true));
      set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode_of(s.scaling, false));
      set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, call.w_scale);
      set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, call.x_scale);
    }
    if (is_fp8(s.w_dtype)) set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{0});
    if (s.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(s.y_dtype));
    }
    return out;
  }
};

LtProduct::LtProduct() {
  cublasLtHandle_t made = nullptr;
  if (Library::get().create(&made) != CUBLAS_STATUS_SUCCESS) {
    sdk::fail(LS_UNSUPPORTED, "product on CUDA: cublasLt found no usable device");
  }
  handle_ = made;
}
LtProduct::~LtProduct() = default;  // its handle goes with the process

const LtProduct& LtProduct::current() {
  static std::mutex mutex;
  static std::map<int, std::unique_ptr<LtProduct>> all;
  int device = 0;
  check(cudaGetDevice(&device), "asking for the GPU");
  const std::lock_guard lock(mutex);
  std::unique_ptr<LtProduct>& one = all[device];
  if (!one) one.reset(new LtProduct());
  return *one;
}

const LtProduct::Entry& LtProduct::entry(const LtShape& shape) const {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Entry>& one = entries_[shape];
  if (!one) one = std::make_unique<Entry>(static_cast<cublasLtHandle_t>(handle_), shape);
  return *one;
}

bool LtProduct::can(const LtShape& shape) const { return entry(shape).found; }

void LtProduct::run(const LtShape& shape, const LtCall& call) const {
  const Entry& one = entry(shape);
  if (!one.found) {
    sdk::fail(LS_UNSUPPORTED, "product on CUDA: found no algorithm of cublasLt for m " +
                                  std::to_string(shape.m) + ", n " + std::to_string(shape.n) +
                                  ", k " + std::to_string(shape.k));
  }
  const Library& lt = Library::get();
  const cublasLtMatmulDesc_t desc = Entry::describe(shape, call);
  const float one_f = 1, zero_f = 0;
  const int32_t one_i = 1, zero_i = 0;
  const bool exact = shape.y_dtype == LS_DTYPE_I32;
  const void* alpha = exact ? static_cast<const void*>(&one_i) : &one_f;
  const void* beta = exact ? static_cast<const void*>(&zero_i) : &zero_f;
  const cublasStatus_t status =
      lt.matmul(static_cast<cublasLtHandle_t>(handle_), desc, alpha, call.w, one.a, call.x, one.b,
                beta, call.y, one.d, call.y, one.d, &one.algo, call.workspace, kWorkspace,
                static_cast<cudaStream_t>(call.stream));
  lt.desc_destroy(desc);
  require(status, "product on CUDA");
}

}  // namespace loadstone::common::cuda
