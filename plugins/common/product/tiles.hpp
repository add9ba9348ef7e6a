// Inside CodedProduct: the path on AMX bf16 tiles. W's rows are decoded as they are (A tiles), the
// activation is packed by `prepare` into B tiles, so y comes out transposed, 16 by 16, and is
// turned while it is scaled.
#pragma once

#include "common/product/coded_product.hpp"

namespace loadstone::common::tiles {

uint64_t activation_nbytes(const CodedShape& shape, uint64_t m);
uint64_t workspace_nbytes(const CodedShape& shape);
void prepare(const CodedShape& shape, const ls_apply& call, const QuantizeRow& quantize,
             void* activation);
void apply(const CodedShape& shape, const ls_apply& call, const CodedWeight& weight, uint64_t begin,
           uint64_t count, const void* activation);

}  // namespace loadstone::common::tiles
