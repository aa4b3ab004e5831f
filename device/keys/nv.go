package keys

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"holdfast/evidence"
)

// counterSize is the size of an NV counter in bytes.
const counterSize = 8

// nvIndex returns an index's name and public area.
func (t *TPM) nvIndex(index tpm2.TPMHandle) (tpm2.NamedHandle, *tpm2.TPMSNVPublic, error) {
	r, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t.tpm)
	if err != nil {
		return tpm2.NamedHandle{}, nil, err
	}
	public, err := r.NVPublic.Contents()
	return tpm2.NamedHandle{Handle: index, Name: r.NVName}, public, err
}

// readNV reads the whole of an index with its own, empty authorisation.
func (t *TPM) readNV(index tpm2.TPMHandle) ([]byte, error) {
	h, public, err := t.nvIndex(index)
	if err != nil {
		return nil, fmt.Errorf("NV %#x: %w", uint32(index), err)
	}
	const chunk = 512 // every TPM can give this much in one response
	var data []byte
	for len(data) < int(public.DataSize) {
		r, err := tpm2.NVRead{AuthHandle: withAuth(h), NVIndex: h, Offset: uint16(len(data)),
			Size: min(chunk, public.DataSize-uint16(len(data)))}.Execute(t.tpm)
		if err != nil {
			return nil, fmt.Errorf("NV %#x: %w", uint32(index), err)
		}
		data = append(data, r.Data.Buffer...)
	}
	return data, nil
}

// DefineCounter makes the NV counter index where there is none. That belongs to
// a device's making alone: one that finds its counter missing later must not
// make it again, because what it had counted would be forgotten. Its value
// only ever grows: a counter that is removed and made again continues above
// the greatest value that any counter of this TPM ever had (TPM 2.0 Library,
// Part 1, section 37.2.4).
func (t *TPM) DefineCounter(index uint32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, public, err := t.nvIndex(tpm2.TPMHandle(index))
	if err == nil && public.Attributes.NT != tpm2.TPMNTCounter {
		return fmt.Errorf("NV %#x is not a counter", index)
	}
	if err != nil {
		define := tpm2.NVDefineSpace{AuthHandle: t.ownerHandle(), PublicInfo: tpm2.New2B(counterPublic(index))}
		if _, err := define.Execute(t.tpm); err != nil {
			return fmt.Errorf("define counter %#x: %w", index, err)
		}
	} else if public.Attributes.Written {
		return nil
	}
	return t.increment(index) // until the first increment it cannot be read
}

// counterPublic is of a counter that only the owner increments and removes,
// and everybody reads.
func counterPublic(index uint32) tpm2.TPMSNVPublic {
	return tpm2.TPMSNVPublic{
		NVIndex: tpm2.TPMHandle(index),
		NameAlg: tpm2.TPMAlgSHA256,
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true,
			NT: tpm2.TPMNTCounter, NoDA: true},
		DataSize: counterSize,
	}
}

func (t *TPM) ownerHandle() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(t.owner)}
}

// IncrementCounter increments the NV counter index and returns its new value.
func (t *TPM) IncrementCounter(index uint32) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.increment(index); err != nil {
		return 0, err
	}
	return t.readCounter(index)
}

func (t *TPM) increment(index uint32) error {
	h, _, err := t.nvIndex(tpm2.TPMHandle(index))
	if err == nil {
		_, err = tpm2.NVIncrement{AuthHandle: t.ownerHandle(), NVIndex: h}.Execute(t.tpm)
	}
	if err != nil {
		return fmt.Errorf("increment counter %#x: %w", index, err)
	}
	return nil
}

// ReadCounter returns the value of the NV counter index.
func (t *TPM) ReadCounter(index uint32) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.readCounter(index)
}

func (t *TPM) readCounter(index uint32) (uint64, error) {
	data, err := t.readNV(tpm2.TPMHandle(index))
	if err == nil && len(data) != counterSize {
		err = errors.New("not a counter")
	}
	if err != nil {
		return 0, fmt.Errorf("read counter: %w", err)
	}
	return binary.BigEndian.Uint64(data), nil
}

// certifyCounter has the attestation key state a counter's value.
func (t *TPM) certifyCounter(ak tpm2.AuthHandle, index uint32, qualifying []byte) (evidence.Counter, error) {
	h, public, err := t.nvIndex(tpm2.TPMHandle(index))
	if err != nil {
		return evidence.Counter{}, fmt.Errorf("certify counter %#x: %w", index, err)
	}
	said, err := tpm2.NVCertify{SignHandle: ak, AuthHandle: withAuth(h), NVIndex: h, Size: counterSize,
		QualifyingData: tpm2.TPM2BData{Buffer: qualifying}, InScheme: nullScheme()}.Execute(t.tpm)
	if err != nil {
		return evidence.Counter{}, fmt.Errorf("certify counter %#x: %w", index, err)
	}
	return evidence.Counter{Public: tpm2.Marshal(public), Certify: certification(said.CertifyInfo, said.Signature)}, nil
}
