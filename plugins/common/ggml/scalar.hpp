// One block of each type, as numeric-definitions give it. Private to this folder.
#pragma once

#include <cstdint>

namespace loadstone::ggml::scalar {

void f32(const uint8_t* block, float* to);
void q4_0(const uint8_t* block, float* to);
void q4_1(const uint8_t* block, float* to);
void q5_0(const uint8_t* block, float* to);
void q5_1(const uint8_t* block, float* to);
void q8_0(const uint8_t* block, float* to);
void q2_k(const uint8_t* block, float* to);
void q3_k(const uint8_t* block, float* to);
void q4_k(const uint8_t* block, float* to);
void q5_k(const uint8_t* block, float* to);
void q6_k(const uint8_t* block, float* to);
void iq2_xxs(const uint8_t* block, float* to);
void iq2_xs(const uint8_t* block, float* to);
void iq2_s(const uint8_t* block, float* to);
void iq3_xxs(const uint8_t* block, float* to);
void iq3_s(const uint8_t* block, float* to);
void iq1_s(const uint8_t* block, float* to);
void iq1_m(const uint8_t* block, float* to);
void iq4_nl(const uint8_t* block, float* to);
void iq4_xs(const uint8_t* block, float* to);
void tq1_0(const uint8_t* block, float* to);
void tq2_0(const uint8_t* block, float* to);
void mxfp4(const uint8_t* block, float* to);
void nvfp4(const uint8_t* block, float* to);

}  // namespace loadstone::ggml::scalar
