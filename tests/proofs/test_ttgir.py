from collections import Counter

from abn_fast.proofs.ttgir import accesses

TEXT = """
module attributes {"ttg.num-ctas" = 1 : i32, "ttg.num-warps" = 4 : i32, "ttg.threads-per-warp" = 32 : i32} {
  tt.func public @kernel(%x: !tt.ptr<f16> {tt.divisibility = 16 : i32}, %scale: !tt.ptr<f32>, %y: !tt.ptr<f16>) {
    %s = tt.load %scale : !tt.ptr<f32> loc(#loc)
    %0 = tt.addptr %x, %n : !tt.ptr<f16>, i32
    %1 = tt.splat %0 : !tt.ptr<f16> -> tensor<8x512x!tt.ptr<f16>, #blocked>
    %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%p = %1, %sum = %cst) -> (tensor<8x512x!tt.ptr<f16>, #blocked>) {
      %2 = tt.load %p, %mask, %zero : tensor<8x512x!tt.ptr<f16>, #blocked>
      %3 = tt.addptr %p, %step : tensor<8x512x!tt.ptr<f16>, #blocked>, tensor<8x512xi32, #blocked>
      scf.yield %3, %2 : tensor<8x512x!tt.ptr<f16>, #blocked>, tensor<8x512xf32, #blocked>
    }
    %4 = tt.splat %y : !tt.ptr<f16> -> tensor<100x!tt.ptr<f16>, #blocked1>
    %5 = tt.addptr %4, %n : tensor<100x!tt.ptr<f16>, #blocked1>, tensor<100xi32, #blocked1>
    tt.store %5, %value, %mask : tensor<100x!tt.ptr<f16>, #blocked1>
    %6 = amdg.buffer_load %x[%offset], %mask : tensor<256xf16, #blocked1>
    amdg.buffer_store %6, %y[%offset], %mask : tensor<256xf32, #blocked1>
"""


def test_accesses_count_the_bytes_of_a_thread_by_argument_through_loops_and_sums_of_pointers() -> None:
    found = accesses(TEXT)
    assert found.loads == Counter({"x": 8 * 512 * 2 // 128 + 256 * 2 // 128})
    assert found.stores == Counter({"y": 2 + 256 * 4 // 128})


SLICES = """
#blocked = #ttg.blocked<{sizePerThread = [1, 1, 4], threadsPerWarp = [1, 4, 8], warpsPerCTA = [1, 2, 1]}>
module attributes {"ttg.num-warps" = 2 : i32, "ttg.threads-per-warp" = 32 : i32} {
  tt.func public @kernel(%x: !tt.ptr<f16>, %mean: !tt.ptr<f32>) {
    %0 = tt.splat %x : !tt.ptr<f16> -> tensor<8x16x32x!tt.ptr<f16>, #blocked>
    %1 = tt.load %0, %mask, %zero : tensor<8x16x32x!tt.ptr<f16>, #blocked>
    %2 = tt.splat %mean : !tt.ptr<f32> -> tensor<16x!tt.ptr<f32>, #ttg.slice<{dim = 0, parent = #blocked}>>
    %3 = tt.load %2 : tensor<16x!tt.ptr<f32>, #ttg.slice<{dim = 0, parent = #ttg.slice<{dim = 2, parent = #blocked}>}>>
"""


def test_what_several_threads_hold_is_loaded_by_each() -> None:
    found = accesses(SLICES)
    channels_of_a_thread = 16 // (4 * 2)
    assert found.loads == Counter({"x": 8 * 16 * 32 * 2 // 64, "mean": 4 * channels_of_a_thread})
