// Of a view of codes what it covers is moved, of its scales those up to its last block.
#include "loraine/model/gpu/gpu_packed.h"

#include "loraine/kernels/products/products_cuda.h"

namespace loraine {
namespace {

int64_t pieces_of(int64_t size, int64_t piece) { return (size + piece - 1) / piece; }

}  // namespace

bool gpu_unpacks(Dtype type) { return type == Dtype::NF4 || type == Dtype::FP4 || type == Dtype::INT8 || type == Dtype::MXFP4_CODES; }

GpuPackedPart packed_part(const Tensor& weight, int64_t row, GpuArena& arena, std::vector<GpuPiece>& pieces) {
  if (!gpu_unpacks(weight.dtype) || !weight.quant || !weight.contiguous())
    throw Error(ErrorKind::unsupported, std::string("weights stored as ") + name_of(weight.dtype) + " have no GPU code",
                "Run on the CPU (device: cpu).");
  const QuantState& from = *weight.quant;
  GpuPackedPart part{row, weight, from, 0};
  const auto put = [&](const void* values, int64_t bytes) -> void* {
    if (!values) return nullptr;
    const Tensor to(arena.take_bytes(static_cast<size_t>(bytes)), Dtype::U8, {bytes, 1});
    pieces.push_back({Tensor(const_cast<void*>(values), Dtype::U8, {bytes, 1}), to});
    return to.data;
  };
  const auto put_array = [&]<class T>(const T*& array, int64_t n) {
    array = static_cast<const T*>(put(array, n * static_cast<int64_t>(sizeof(T))));
  };
  const int64_t before = static_cast<const char*>(weight.data) - static_cast<const char*>(from.codes);  // bytes
  part.first = before * (weight.dtype == Dtype::INT8 ? 1 : 2);
  const int64_t end = part.first + weight.numel();
  part.weight.data = put(weight.data, static_cast<int64_t>(weight.bytes()));
  part.weight.quant = nullptr;
  part.state.codes = static_cast<const char*>(part.weight.data) - before;  // of element 0, which may lie before what was moved
  if (weight.dtype == Dtype::INT8) {
    put_array(part.state.row_absmax, pieces_of(end, from.cols));
  } else if (weight.dtype == Dtype::MXFP4_CODES) {
    put_array(part.state.exponents, pieces_of(end, 32));
  } else {
    const int64_t blocks = pieces_of(end, from.blocksize);
    put_array(part.state.map, 16);
    put_array(part.state.absmax, blocks);
    put_array(part.state.absmax_codes, blocks);
    put_array(part.state.nested_map, 256);
    put_array(part.state.nested_absmax, pieces_of(blocks, from.nested_blocksize));
  }
  return part;
}

void unpack(GpuStream& stream, const Tensor& out, const GpuPackedPart& part) {
  if (is_packed(part.weight.dtype)) return dequantise_cuda(stream, out, part.weight.dtype, part.state, part.first);
  stream.copy(out.data, part.weight.data, out.bytes());
}

}  // namespace loraine
