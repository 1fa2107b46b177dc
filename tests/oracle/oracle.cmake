# The bleed oracle (label oracle): 60 seconds of it, and the proof that it can fail. See run.
if(TARGET pgsluice)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
  add_executable(oracle ${sources})
  target_include_directories(oracle PRIVATE ${CMAKE_CURRENT_LIST_DIR})
  # GCC 12 with a sanitizer takes Asio's own pair for one that does not match.
  target_compile_options(oracle PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-mismatched-new-delete>)
  target_link_libraries(oracle PRIVATE pgsluice_wire pgsluice_auth Threads::Threads)
  foreach(kind "" _self_test)
    set(options "")
    if(kind)
      set(options --self-test)
    endif()
    add_test(NAME oracle${kind} COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_LIST_DIR}/run ${options})
    set_tests_properties(oracle${kind} PROPERTIES LABELS oracle TIMEOUT 900
                         ENVIRONMENT "PGSLUICE_BIN=$<TARGET_FILE:pgsluice>;PGSLUICE_ORACLE=$<TARGET_FILE:oracle>;PGSLUICE_SLOW=${PGSLUICE_SLOW}")
  endforeach()
endif()
