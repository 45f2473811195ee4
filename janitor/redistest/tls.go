package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// StartTLS is Start with a TLS port beside the plain one. Its certificate holds for 127.0.0.1 and localhost, and it asks
// clients for one signed by the same CA (unless args say `--tls-auth-clients no`).
func StartTLS(t testing.TB, args ...string) *Server {
	t.Helper()
	s := newServer(t, args)
	if err := s.makeCertificates(); err != nil {
		t.Fatalf("making certificates: %v", err)
	}
	s.startOnFreePort(t)
	return s
}

func (s *Server) makeCertificates() error {
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redistest CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	caKey, err := s.issue("ca", ca, ca, nil)
	if err != nil {
		return err
	}
	for serial, name := range []string{"server", "client"} {
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(serial + 2)), Subject: pkix.Name{CommonName: "redistest " + name},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		if _, err := s.issue(name, leaf, ca, caKey); err != nil {
			return err
		}
	}
	s.CACert, s.Cert, s.Key = filepath.Join(s.Dir, "ca.crt"), filepath.Join(s.Dir, "client.crt"), filepath.Join(s.Dir, "client.key")
	return nil
}

// takeCertificates gives a server the certificates of another one.
func (s *Server) takeCertificates(of *Server) error {
	for _, name := range []string{"ca.crt", "server.crt", "server.key"} {
		data, err := os.ReadFile(filepath.Join(of.Dir, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.Dir, name), data, 0o600); err != nil {
			return err
		}
	}
	s.CACert, s.Cert, s.Key = filepath.Join(s.Dir, "ca.crt"), of.Cert, of.Key
	return nil
}

// issue writes name.crt and name.key, signed by the issuer, or by itself where there is no issuer's key.
func (s *Server) issue(name string, certificate, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if issuerKey == nil {
		issuerKey = key
	}
	signed, err := x509.CreateCertificate(rand.Reader, certificate, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", name, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := s.writePEM(name+".crt", "CERTIFICATE", signed); err != nil {
		return nil, err
	}
	return key, s.writePEM(name+".key", "PRIVATE KEY", private)
}

func (s *Server) writePEM(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(s.Dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
