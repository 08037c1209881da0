# The GPU (docs/cuda.md). Every build compiles the kernels, *.cu, with its C++ compiler for the emulated GPU of the tests, and once more with
# -fsanitize=thread for the race detector; LORAINE_CUDA=ON compiles the same files with nvcc. loraine_gpu, which loraine_model links, is the real
# GPU then, else the emulated one, which opens only where LORAINE_GPU=emulated asks for it.
option(LORAINE_CUDA "Compile the GPU kernels with nvcc too, for all architectures (docs/cuda.md)" OFF)
file(GLOB_RECURSE gpu_kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/loraine/*.cu)
file(GLOB_RECURSE gpu_op_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/loraine/*_cuda_test.cpp)
set(gpu_emulator loraine/core/gpu_emulated.cpp loraine/kernels/cuda/emulated/emulate.cpp loraine/kernels/cuda/emulated/gemm.cpp
                 loraine/kernels/cuda/gemm_shape.cpp)
set_source_files_properties(${gpu_kernels} PROPERTIES LANGUAGE CXX)

# loraine_gpu_objects(NAME SOURCE...): objects that find the emulator's dialect.h
function(loraine_gpu_objects name)
  add_library(${name} OBJECT ${ARGN})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/loraine/kernels/cuda/emulated)
  target_link_libraries(${name} PUBLIC loraine_kernels)
  target_compile_options(${name} PRIVATE -ffp-contract=off)  # as nvcc's --fmad=false
endfunction()
# loraine_gpu_tests(NAME OBJECTS... ): a test of the emulated GPU
function(loraine_gpu_tests name)
  add_executable(${name}_tests)
  target_link_libraries(${name}_tests gpu_orders ${ARGN} GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name}_tests)
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 900 ENVIRONMENT "${LORAINE_TEST_ENVIRONMENT}")
endfunction()

loraine_gpu_objects(gpu_emulator ${gpu_emulator})
loraine_gpu_objects(gpu_orders tests/support/gpu_orders_emulated.cpp)
loraine_gpu_objects(gpu_emulated_kernels ${gpu_kernels})
loraine_gpu_objects(gpu_op_tests ${gpu_op_tests})
loraine_gpu_objects(gpu_emulator_tests loraine/kernels/cuda/gpu_test.cpp loraine/kernels/cuda/emulate_test.cpp)
set_target_properties(gpu_op_tests PROPERTIES UNITY_BUILD ${LORAINE_UNITY} UNITY_BUILD_BATCH_SIZE 4)
target_link_libraries(gpu_op_tests PUBLIC GTest::gtest)
target_link_libraries(gpu_emulator_tests PUBLIC GTest::gtest)
loraine_gpu_tests(gpu gpu_emulator gpu_emulated_kernels gpu_op_tests gpu_emulator_tests)

if(NOT LORAINE_SANITIZE)
  # That the tests above test: kernels with planted faults, compiled when the test runs.
  set(planted ${CMAKE_BINARY_DIR}/planted_faults.json)
  string(REPLACE ";" "\",\"" libraries "${HWY_LINK_LIBRARIES}")
  file(GENERATE OUTPUT ${planted} CONTENT "{\"compiler\": \"${CMAKE_CXX_COMPILER}\", \"folder\": \"${CMAKE_BINARY_DIR}\", \"cuda\": \"${LORAINE_CUDA}\",
\"kernels\": [\"$<JOIN:$<TARGET_OBJECTS:gpu_emulated_kernels>,\", \">\"],
\"objects\": [\"$<JOIN:$<TARGET_OBJECTS:gpu_emulator>,\", \">\", \"$<JOIN:$<TARGET_OBJECTS:gpu_op_tests>,\", \">\", \"$<TARGET_OBJECTS:gpu_orders>\"],
\"libraries\": [\"$<TARGET_FILE:loraine_kernels>\", \"$<TARGET_FILE:loraine_core>\", \"$<TARGET_LINKER_FILE:DNNL::dnnl>\", \"$<TARGET_LINKER_FILE:fmt::fmt>\",
\"$<TARGET_LINKER_FILE:GTest::gtest_main>\", \"$<TARGET_LINKER_FILE:GTest::gtest>\", \"${libraries}\", \"${OpenMP_CXX_FLAGS}\", \"-lpthread\"]}
")
  add_test(NAME gpu_planted_faults COMMAND Python3::Interpreter tests/gpu/planted_faults_test.py ${planted} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(gpu_planted_faults PROPERTIES LABELS unit TIMEOUT 900 ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")

  # Races: of the same ops, whose kernels tell of each access (kernels/cuda/emulated/races.cpp); the compiler's own library is not linked.
  loraine_gpu_objects(gpu_raced_kernels ${gpu_kernels} loraine/kernels/cuda/races_test.cpp)
  target_link_libraries(gpu_raced_kernels PUBLIC GTest::gtest)
  target_compile_options(gpu_raced_kernels PRIVATE -fsanitize=thread -O1 $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  loraine_gpu_objects(gpu_races loraine/kernels/cuda/emulated/races.cpp)
  loraine_gpu_tests(gpu_races gpu_emulator gpu_races gpu_raced_kernels gpu_op_tests)
endif()

if(LORAINE_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES "80;89-real;90a-real;100-real;120-real")  # sm_80's PTX runs on whatever comes
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit 12.8 REQUIRED)
  add_subdirectory(loraine/kernels/cuda/nvidia)
else()
  add_library(loraine_gpu STATIC $<TARGET_OBJECTS:gpu_emulator> $<TARGET_OBJECTS:gpu_emulated_kernels>)
  target_link_libraries(loraine_gpu PUBLIC loraine_kernels)
endif()
